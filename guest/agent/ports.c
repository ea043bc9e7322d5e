/*
 * virtio-serial ports; ports.h.
 *
 * The names are read where the kernel keeps them, /sys/class/virtio-ports/<port>/name, because the
 * links in /dev/virtio-ports are udev's, which small guests do not have. A port gets its name a
 * moment after it appears; both are kernel events, and either makes us look again. Without /sys the
 * links are all there is.
 */
#include "ports.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kernel.h"
#include "log.h"
#include "session.h"

#define PREFIX    "org.cocoon.agent."
#define PORTS_MAX 16
#define CLASS_DIR "/sys/class/virtio-ports"
#define LINK_DIR  "/dev/virtio-ports"

struct port {
        bool open;
        bool refused; /* said once */
        char name[64];
};

static struct port ports[PORTS_MAX];
static struct source uevents = SOURCE_NONE;

static void port_gone(void *arg)
{
        struct port *port = arg;

        log_info("port %s is gone", port->name);
        port->open = false;
}

static struct port *port_by_name(const char *name)
{
        for (size_t i = 0; i < PORTS_MAX; i++) {
                if (strcmp(ports[i].name, name) == 0)
                        return &ports[i];
                if (!ports[i].name[0]) {
                        snprintf(ports[i].name, sizeof(ports[i].name), "%s", name);
                        return &ports[i];
                }
        }
        return NULL;
}

static void open_port(const char *name, const char *path)
{
        struct port *port = port_by_name(name);
        struct session *s;
        int fd;

        if (!port || port->open)
                return;
        fd = open(path, O_RDWR | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        if (fd < 0) {
                if (!port->refused)
                        log_warn("%s: %s", path, strerror(errno));
                port->refused = true;
                return;
        }
        s = session_new(fd, SESSION_PORT, port_gone, port);
        if (!s) {
                log_warn("%s: cannot be watched", path);
                return;
        }
        port->open = true;
        port->refused = false;
        log_info("serving %s", name);
        session_announce(s);
}

static bool read_name(const char *port, char *name, size_t size)
{
        char path[PATH_MAX];
        ssize_t n;
        int fd;

        snprintf(path, sizeof(path), CLASS_DIR "/%s/name", port);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return false;
        n = read(fd, name, size - 1);
        close(fd);
        if (n <= 0)
                return false;
        name[n] = '\0';
        name[strcspn(name, "\n")] = '\0';
        return strncmp(name, PREFIX, sizeof(PREFIX) - 1) == 0;
}

static void scan(void)
{
        DIR *dir = opendir(CLASS_DIR);
        bool links = !dir;
        struct dirent *entry;
        char path[PATH_MAX];
        char name[64];

        if (links)
                dir = opendir(LINK_DIR);
        while (dir && (entry = readdir(dir))) {
                if (links && strncmp(entry->d_name, PREFIX, sizeof(PREFIX) - 1) == 0) {
                        snprintf(path, sizeof(path), LINK_DIR "/%s", entry->d_name);
                        open_port(entry->d_name, path);
                } else if (!links && entry->d_name[0] != '.' &&
                           read_name(entry->d_name, name, sizeof(name))) {
                        snprintf(path, sizeof(path), "/dev/%s", entry->d_name);
                        open_port(name, path);
                }
        }
        if (dir)
                closedir(dir);
}

static void kernel_event(struct source *source, uint32_t events)
{
        char message[4096];
        bool ours = false;
        ssize_t n;

        (void)events;
        while ((n = recv(source->fd, message, sizeof(message), MSG_DONTWAIT)) != -1 ||
               errno == ENOBUFS || errno == EINTR) {
                /* Lost some: ours may have been among them. */
                if (n < 0)
                        ours = true;
                else if (memmem(message, (size_t)n, "SUBSYSTEM=virtio-ports",
                                sizeof("SUBSYSTEM=virtio-ports")))
                        ours = true;
        }
        if (ours)
                scan();
}

void ports_open(void)
{
        struct netlink_address address = { .family = AF_NETLINK, .groups = UEVENT_GROUP };

        /* First the ear, then the eye: nothing can come in between. */
        uevents.ready = kernel_event;
        uevents.fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, UEVENT_PROTOCOL);
        if (uevents.fd < 0 || bind(uevents.fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
            loop_watch(&uevents) < 0)
                log_warn("no kernel events: later serial ports will not be noticed: %s",
                         strerror(errno));
        scan();
}
