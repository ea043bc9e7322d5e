#include "args.h"

#include <ctype.h>
#include <stddef.h>
#include <string.h>

static const struct {
        const char *name;
        bool flag; /* takes no value */
        size_t offset;
} known[] = {
        { "api-sock", false, offsetof(struct fcd_args, api_sock) },
        { "id", false, offsetof(struct fcd_args, id) },
        { "log-path", false, offsetof(struct fcd_args, log_path) },
        { "level", false, offsetof(struct fcd_args, level) },
        { "describe-snapshot", false, offsetof(struct fcd_args, describe_snapshot) },
        { "enable-pci", true, offsetof(struct fcd_args, enable_pci) },
        { "snapshot-version", true, offsetof(struct fcd_args, snapshot_version) },
};

static int refuse(struct cc_buf *text, struct cc_buf *debug, const char *kind, const char *format,
                  const char *arg)
{
        const char *end = strstr(format, "{}") + 2;

        cc_buf_add(text, format, (size_t)(end - 2 - format));
        cc_buf_printf(text, "%s%s", arg, end);
        cc_buf_printf(debug, "%s(\"%s\")", kind, arg);
        return -1;
}

static bool has(int argc, char **argv, const char *arg)
{
        for (int i = 1; i < argc; i++) {
                if (strcmp(argv[i], arg) == 0)
                        return true;
        }
        return false;
}

int fcd_args_parse(int argc, char **argv, struct fcd_args *ret, struct cc_buf *text,
                   struct cc_buf *debug)
{
        bool seen[CC_ARRAY_LEN(known)] = { false };

        *ret = (struct fcd_args){ .api_sock = "/run/firecracker.socket",
                                  .id = "anonymous-instance" };
        for (int i = 1; i < argc; i++) {
                if (strcmp(argv[i], "--") == 0)
                        argc = i; /* the rest is for nobody */
        }
        /* These two hide everything else, however wrong. */
        ret->help = has(argc, argv, "--help") || has(argc, argv, "-h");
        ret->version = !ret->help && has(argc, argv, "--version");
        if (ret->help || ret->version)
                return 0;
        for (int i = 1; i < argc; i++) {
                const char *name = argv[i] + 2;
                size_t k = 0;

                if (strncmp(argv[i], "--", 2) != 0)
                        return refuse(text, debug, "UnexpectedArgument",
                                      "Found argument '{}' which wasn't expected, or isn't valid "
                                      "in this context.",
                                      argv[i]);
                while (k < CC_ARRAY_LEN(known) && strcmp(known[k].name, name) != 0)
                        k++;
                if (k == CC_ARRAY_LEN(known))
                        return refuse(text, debug, "UnexpectedArgument",
                                      "Found argument '{}' which wasn't expected, or isn't valid "
                                      "in this context.",
                                      name);
                if (seen[k])
                        return refuse(text, debug, "DuplicateArgument",
                                      "The argument '{}' was provided more than once.", name);
                seen[k] = true;
                if (known[k].flag) {
                        *(bool *)((char *)ret + known[k].offset) = true;
                        continue;
                }
                if (++i == argc || strncmp(argv[i], "--", 2) == 0)
                        return refuse(text, debug, "MissingValue",
                                      "The argument '{}' requires a value, but none was supplied.",
                                      name);
                *(const char **)((char *)ret + known[k].offset) = argv[i];
        }
        return 0;
}

int fcd_args_check_id(const char *id, struct cc_buf *reason)
{
        size_t len = strlen(id);

        if (len < 1 || len > 64) {
                cc_buf_printf(reason, "InvalidLen(%zu, 1, 64)", len);
                return -1;
        }
        for (size_t i = 0; i < len; i++) {
                if (!isalnum((unsigned char)id[i]) && id[i] != '-') {
                        cc_buf_printf(reason, "InvalidChar('%c', %zu)", id[i], i);
                        return -1;
                }
        }
        return 0;
}
