/* A running VM of the double with a guest to talk to, for tests of its own knobs. */
#pragma once

#include "support.h"

#define VM                                                                                         \
        "{\"cpus\":{\"boot_vcpus\":2,\"max_vcpus\":2},\"memory\":{\"size\":67108864},"             \
        "\"payload\":{\"kernel\":\"k\",\"cmdline\":\"console=hvc0 cocoon.hostname=web "            \
        "ip=10.0.0.7::10.0.0.1:255.255.255.0:web:eth0:off\"},\"disks\":[{\"path\":\"layer.raw\","  \
        "\"readonly\":true,\"image_type\":\"Raw\"},{\"path\":\"cow.raw\",\"image_type\":\"Raw\","  \
        "\"serial\":\"cocoon-cow\"}],\"net\":[{\"tap\":\"t\",\"mac\":\"02:00:00:00:00:07\"}],"     \
        "\"balloon\":{\"size\":16777216},\"serial\":{\"mode\":\"Off\"},\"console\":{\"mode\":"     \
        "\"Pty\"}}"
#define LAYER "{\"path\":\"layer.raw\",\"readonly\":true,\"image_type\":\"Raw\",\"id\":\"dd\"}"

static inline struct vmm boot(void)
{
        struct vmm v;

        knob("TAP", "off");
        v = vmm_start("");
        put("vm.create", VM, 204, "");
        put("vm.boot", NULL, 204, "");
        return v;
}

static inline void write_text(const char *path, const char *text)
{
        struct cc_err err = CC_ERR_INIT;

        assert_ok(cc_publish(path, text, strlen(text), 0600, &err));
}

static inline int teardown(void **state)
{
        no_knobs();
        return files_teardown(state);
}

/* Run a group that says nothing about the real program. */
#define doubles_only(tests)                                                                        \
        (is_double() ? cmocka_run_group_tests(tests, NULL, NULL)                                   \
                     : (print_message("1..0 # skipped: these are knobs of the double\n"), 0))

#define double_test(f) cmocka_unit_test_setup_teardown(f, files_setup, teardown)

static inline char *pty_path(void)
{
        CC_JSON json_t *j = info();

        return xstrdup(json_string_value(
                json_object_get(json_object_get(json_object_get(j, "config"), "console"), "file")));
}

/* What the guest says to `line`, typed at its console; `text` should be in it. */
static inline char *type_line(const char *line, const char *text)
{
        CC_FREE char *path = pty_path();
        CC_FREE char *typed = xasprintf("%s\r", line);
        int fd = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
        char *said;

        assert_true(fd >= 0);
        assert_int_equal(write(fd, typed, strlen(typed)), strlen(typed));
        said = hear(fd, *text ? text : NULL);
        close(fd);
        return said;
}

#define guest_says(line, text)                                                                     \
        do {                                                                                       \
                CC_FREE char *said_ = type_line(line, text);                                       \
                if (!strstr(said_, text))                                                          \
                        fail_msg("%s: %s", line, said_);                                           \
        } while (0)
