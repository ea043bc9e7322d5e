/* What a machine takes from the host: firmware, processors, the places of its sockets. */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "hv/ch/ch.h"

#define FIRMWARE "firmware/CLOUDHV.fd"

/* More processors than any kernel is built for. */
#define MAX_CPUS 8192

void ch_host_facts_clear(struct ch_host_facts *f)
{
        free(f->firmware);
        free(f->api_socket);
        free(f->serial_socket);
        free(f->vsock_socket);
        free(f->cpus);
        memset(f, 0, sizeof(*f));
}

/* The processors we may run on. Without the list, queues are simply not pinned. */
static void allowed_cpus(struct ch_host_facts *f)
{
        cpu_set_t *set = CPU_ALLOC(MAX_CPUS);
        size_t size = CPU_ALLOC_SIZE(MAX_CPUS);

        if (set && sched_getaffinity(0, size, set) == 0) {
                f->cpus = xcalloc((size_t)CPU_COUNT_S(size, set) + 1, sizeof(*f->cpus));
                for (int cpu = 0; cpu < MAX_CPUS; cpu++)
                        if (CPU_ISSET_S((size_t)cpu, size, set))
                                f->cpus[f->n_cpus++] = cpu;
        }
        CPU_FREE(set);
}

static char *firmware_path(const struct hv_env *env)
{
        return cc_path_join(cc_isempty(env->root_dir) ? "" : env->root_dir, FIRMWARE);
}

void ch_host_facts(const struct hv_env *env, const struct vm_spec *spec,
                   struct ch_host_facts *facts, struct ch_host *ret)
{
        const char *run_dir = spec->run_dir ? spec->run_dir : "";

        facts->firmware = firmware_path(env);
        facts->api_socket = cc_path_join(run_dir, CH_API_SOCK);
        facts->serial_socket = cc_path_join(run_dir, CH_SERIAL_SOCK);
        facts->vsock_socket = cc_path_join(run_dir, CH_VSOCK_SOCK);
        allowed_cpus(facts);
        *ret = (struct ch_host){
                .firmware = facts->firmware,
                .api_socket = facts->api_socket,
                .serial_socket = facts->serial_socket,
                .vsock_socket = facts->vsock_socket,
                .online_cpus = sysconf(_SC_NPROCESSORS_ONLN),
                .cpus = facts->cpus,
                .n_cpus = facts->n_cpus,
        };
}

int ch_check_firmware(const struct hv_env *env, struct cc_err *err)
{
        CC_FREE char *path = firmware_path(env);

        if (cc_is_valid_file(path))
                return 0;
        (void)cc_fail(err, CC_UNAVAILABLE, "cloud-hypervisor: UEFI firmware %s is missing", path);
        cc_hint(err, "put the firmware built for Cloud Hypervisor (CLOUDHV.fd) there");
        return -CC_UNAVAILABLE;
}
