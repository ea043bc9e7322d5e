/* cocoon version */
#include "build_info.h"
#include "cli/cli.h"
#include "cli/output.h"
#include "version.h"

#if defined(__clang__)
#define COMPILER "clang " __clang_version__
#else
#define COMPILER "gcc " __VERSION__
#endif

#if defined(__x86_64__)
#define ARCH "amd64"
#elif defined(__aarch64__)
#define ARCH "arm64"
#else
#define ARCH "unknown"
#endif

/* Compilers take the date from SOURCE_DATE_EPOCH when it is set, so builds stay reproducible. */
#define BUILT __DATE__ " " __TIME__

static int run(struct cli *cli, void *opts, struct cc_err *err)
{
        const struct output_flags *o = opts;
        CC_BUF struct cc_buf b = { 0 };

        if (output_is_json(o)) {
                json_t *json = json_object();

                json_object_set_new(json, "version", json_string(COCOON_VERSION));
                json_object_set_new(json, "git_hash", json_string(COCOON_GIT_HASH));
                json_object_set_new(json, "built", json_string(BUILT));
                json_object_set_new(json, "compiler", json_string(COMPILER));
                json_object_set_new(json, "os", json_string("linux"));
                json_object_set_new(json, "arch", json_string(ARCH));
                out_json(json);
                return 0;
        }
        cc_buf_printf(&b, "%-16s%s\n", "Version:", COCOON_VERSION);
        cc_buf_printf(&b, "%-16s%s\n", "Git hash:", COCOON_GIT_HASH);
        cc_buf_printf(&b, "%-16s%s\n", "Built:", BUILT);
        cc_buf_printf(&b, "%-16s%s\n", "Compiler:", COMPILER);
        cc_buf_printf(&b, "%-16s%s\n", "OS/Arch:", "linux/" ARCH);
        out_text(b.data);
        return 0;
}

static const struct opt_group groups[] = { { output_json_opts, 0, NULL }, { 0 } };

const struct cmd cmd_version = {
        .path = "version",
        .args = "",
        .help = "Print the version",
        .long_help = "Also as 'cocoon --version'. Never reads the configuration.",
        .examples = "cocoon version\ncocoon version -o json\n",
        .opts = groups,
        .size = sizeof(struct output_flags),
        .flags = CMD_NO_CONFIG | CMD_STREAM,
        .run = run,
};
