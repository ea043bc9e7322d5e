/* cocoon vm debug: how a VM would be launched. */
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "cli/output.h"
#include "cli/vm_flags.h"

struct options {
        struct vm_flags vm;
        struct output_flags out;
        struct vm_debug_request how;
};

/* One shell word: bare when it is plain, else in single quotes. */
static void shell_word(struct cc_buf *b, const char *word)
{
        static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                    "0123456789-_=+:,./@%";

        if (*word && strspn(word, plain) == strlen(word)) {
                cc_buf_str(b, word);
                return;
        }
        cc_buf_char(b, '\'');
        for (; *word; word++)
                if (*word == '\'')
                        cc_buf_str(b, "'\\''");
                else
                        cc_buf_char(b, *word);
        cc_buf_char(b, '\'');
}

static void shell_line(struct cc_buf *b, const struct cc_strv *argv)
{
        for (size_t i = 0; i < argv->len; i++) {
                cc_buf_str(b, i ? " " : "");
                shell_word(b, argv->v[i]);
        }
        cc_buf_char(b, '\n');
}

/* In the background, because the launch comes after it: wait for the socket, then one request after
 * the other, none after one that failed. */
static void shell_requests(struct cc_buf *b, const struct vm_debug *debug)
{
        const struct cc_strv *q = &debug->requests;

        cc_buf_str(b, "# configure and boot, once the launch below has made its socket\n"
                      "(\n  set -e\n  for i in $(seq 100); do [ ! -S ");
        shell_word(b, debug->socket);
        cc_buf_str(b, " ] || break; sleep 0.1; done\n");
        for (size_t i = 0; i + 2 < q->len; i += 3) {
                CC_FREE char *url = xasprintf("http://localhost%s", q->v[i + 1]);

                cc_buf_str(b, "  curl -sS --fail-with-body --unix-socket ");
                shell_word(b, debug->socket);
                cc_buf_printf(b, " -X %s ", q->v[i]);
                shell_word(b, url);
                cc_buf_str(b, " \\\n    -d ");
                shell_word(b, q->v[i + 2]);
                cc_buf_char(b, '\n');
        }
        cc_buf_str(b, ") &\n");
}

static void print_shell(const struct vm_debug *debug)
{
        CC_BUF struct cc_buf b = { 0 };
        const struct cc_strv *argv = &debug->argv;

        cc_buf_str(&b, "# files\n");
        for (size_t i = 0; i < debug->n_steps; i++)
                shell_line(&b, &debug->steps[i]);
        if (debug->no_seed)
                cc_buf_str(&b, "# without the cloud-init disk of the first boot, which holds the "
                               "password\n");
        if (debug->requests.len)
                shell_requests(&b, debug);
        cc_buf_printf(&b, "# launch command%s%s\n", debug->hint ? "; " : "",
                      debug->hint ? debug->hint : "");
        for (size_t i = 0; i < argv->len; i++) {
                bool flag = argv->v[i][0] == '-';

                cc_buf_str(&b, i == 0 ? "" : flag ? " \\\n  " : " ");
                shell_word(&b, argv->v[i]);
        }
        cc_buf_char(&b, '\n');
        out_text(b.data);
}

static int run(struct cli *cli, void *opts, struct cc_err *err)
{
        struct options *o = opts;
        ENGINE struct engine e = { 0 };
        DATA_DISKS struct data_disks disks = { 0 };
        VM_DEBUG struct vm_debug debug = { 0 };
        struct vm_request request;
        int r;

        cli->quiet_log = output_is_json(&o->out);
        r = vm_flags_request(&o->vm, cli->args[0], &disks, &request, err);
        if (r == 0)
                r = cli_engine(cli, &e, err);
        if (r == 0)
                r = vm_debug(&e, &request, &o->how, &debug, err);
        if (r < 0)
                return r;
        if (disks.n)
                cc_warn("vm.debug", "debug makes no data disks; the commands it prints do");
        if (output_is_json(&o->out)) {
                json_t *array = json_array();

                for (size_t i = 0; i < debug.argv.len; i++)
                        json_array_append_new(array, out_string(debug.argv.v[i]));
                out_json(array);
        } else {
                print_shell(&debug);
        }
        return 0;
}

static const struct opt rows[] = {
        { .name = "max-cpu",
          .type = OPT_INT,
          .offset = offsetof(struct options, how.max_cpu),
          .metavar = "N",
          .help = "Cloud Hypervisor: processors that can be plugged (0: the host's)" },
        { .name = "balloon",
          .type = OPT_INT,
          .offset = offsetof(struct options, how.balloon),
          .metavar = "MB",
          .help = "Cloud Hypervisor: size of the balloon (0: as at a start)" },
        { .name = "cow",
          .type = OPT_STRING,
          .offset = offsetof(struct options, how.cow),
          .metavar = "FILE",
          .help = "path of the writable disk (default cow-<name>.raw)",
          .complete = COMPLETE_FILE },
        { .name = "ch",
          .type = OPT_STRING,
          .offset = offsetof(struct options, how.ch_binary),
          .metavar = "FILE",
          .help = "Cloud Hypervisor: its binary",
          .complete = COMPLETE_FILE },
        { 0 },
};

static const struct opt_group groups[] = {
        VM_FLAG_GROUPS(struct options, vm),
        { rows, 0, "Launch command" },
        { output_json_opts, offsetof(struct options, out), "Output" },
        { 0 },
};

const struct cmd cmd_vm_debug = {
        .path = "vm debug",
        .args = "IMAGE",
        .min = 1,
        .max = 1,
        .help = "Print the command that would launch a virtual machine",
        .long_help =
                "Checks the flags like 'vm create', makes nothing, and prints shell text that "
                "comes from the same builder as the launch itself. Pasted into a shell it makes "
                "its files in the current directory and boots the guest with the console on "
                "the terminal. With -o json the words of the launch command as an array.",
        .examples = "cocoon vm debug --qemu --memory 2G debian:12\n",
        .opts = groups,
        .excludes = vm_excludes,
        .size = sizeof(struct options),
        .flags = CMD_STREAM,
        .complete = COMPLETE_IMAGE,
        .run = run,
};
