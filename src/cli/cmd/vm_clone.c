/* cocoon vm clone */
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "cli/output.h"
#include "cli/pull.h"
#include "cli/source_flags.h"

struct options {
        struct source_flags source;
        struct output_flags out;
        const char *name, *network, *bridge;
        int64_t nics, queue_size, disk_queue_size;
        bool no_direct_io, pull, no_guest_setup;
        struct cc_strv data_disk;
};

/* What --pull fetches: the image by the digest that was recorded, so that the clone's disks fit. */
static void pull_base(struct cli *cli, struct engine *e, const struct vm_source *source)
{
        SNAPSHOT_RECORD struct snapshot_record s = SNAPSHOT_RECORD_INIT;
        IMAGE_RECORD struct image_record image = IMAGE_RECORD_INIT;
        struct snap_env env = vm_snap_env(e);
        struct cc_err err = CC_ERR_INIT;
        CC_FREE char *ref = NULL;
        CC_CLOSE int lease = -1;
        const char *name;
        const char *got;
        int r = *source->from_dir ? snap_from_dir(source->from_dir, &s, &err)
                                  : snap_open(&env, source->snapshot, "vm.clone", &s, &lease, &err);

        if (r == 0 && cc_isempty(s.config.image))
                r = cc_fail(&err, CC_NOT_FOUND, "the snapshot names no image");
        if (r == 0) {
                name = s.config.image;
                if (cc_streq(s.config.image_type, IMAGE_OCI) &&
                    !cc_isempty(s.config.image_digest) && !strchr(name, '@')) {
                        struct image_name parsed = { 0 };

                        if (image_name_parse(name, &parsed, NULL) == 0)
                                ref = xasprintf("%s/%s@%s", parsed.registry, parsed.repository,
                                                s.config.image_digest);
                        image_name_clear(&parsed);
                }
                r = pull_image(cli, e, ref ? ref : name, true, &image, &err);
        }
        if (r < 0) {
                cc_warn("vm.clone", "pull base image: %s", err.msg);
                return;
        }
        got = image.manifest_digest ? image.manifest_digest : image.content_sum;
        if (!cc_isempty(s.config.image_digest) && got && !cc_streq(got, s.config.image_digest))
                cc_warn("vm.clone", "image %s is now %s, the snapshot was made from %s",
                        s.config.image, got, s.config.image_digest);
}

/* `settled`: the guest has its identity already. */
static void show(const struct cli *cli, const struct options *o, const struct vm_record *vm,
                 bool settled)
{
        CC_FREE char *hints = settled ? xstrdup("") : vm_clone_hints(vm);

        cli_success(cli, "vm.clone", "VM cloned: %s (name: %s)", vm->id, vm->config.name);
        if (output_is_json(&o->out)) {
                json_t *root = record_dump(&vm_record_type, vm, RECORD_PUBLIC);
                CC_STRV struct cc_strv lines = { 0 };
                json_t *list = json_array();
                const char *line;

                cc_split(hints, "\n", &lines);
                cc_strv_foreach (&lines, i, line)
                        json_array_append_new(list, out_string(line));
                json_object_set_new(root, "hints", list);
                out_json(root);
        } else if (o->out.quiet) {
                out_line(vm->id);
        } else if (!settled) {
                out_text("# run in the clone, so that it takes over its own identity:\n");
                out_text(hints);
        }
}

static int run(struct cli *cli, void *opts, struct cc_err *err)
{
        struct options *o = opts;
        ENGINE struct engine e = { 0 };
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        struct vm_clone_request req = {
                .name = o->name,
                .network = o->network,
                .bridge = o->bridge,
                .nics = opt_given(&cli->set, "nics") ? o->nics : -1,
                .queue_size = o->queue_size,
                .disk_queue_size = o->disk_queue_size,
                .no_guest_setup = o->no_guest_setup,
                .no_direct_io = opt_given(&cli->set, "no-direct-io") ? o->no_direct_io : -1,
        };
        struct cc_err why = CC_ERR_INIT;
        bool settled = false;
        int r = source_flags_parse(&o->source, cli->n_args ? cli->args[0] : NULL, &req.source,
                                   &req.mode, err);

        cli->quiet_log = o->out.quiet || output_is_json(&o->out);
        if (r == 0 && opt_given(&cli->set, "nics") && o->nics < 0)
                r = cc_fail(err, CC_INVALID, "nics must be between 0 and 128, got %lld",
                            (long long)o->nics);
        if (r == 0)
                r = cli_engine(cli, &e, err);
        if (r < 0)
                return r;
        r = vm_clone(&e, &req, &vm, &settled, &why);
        if (r < 0 && o->pull && cc_streq(why.code, "base_missing")) {
                pull_base(cli, &e, &req.source);
                why = (struct cc_err)CC_ERR_INIT;
                r = vm_clone(&e, &req, &vm, &settled, &why);
        }
        if (r < 0)
                return cc_err_copy(err, &why);
        show(cli, o, &vm, settled);
        return 0;
}

#define AT(member) .offset = offsetof(struct options, member)

static const struct opt rows[] = {
        { .name = "name",
          .type = OPT_STRING,
          AT(name),
          .metavar = "NAME",
          .help = "name of the new VM; cocoon-clone-<id> if absent" },
        { .name = "network",
          .type = OPT_STRING,
          AT(network),
          .metavar = "NAME",
          .help = "CNI conflist, cocoon-builtin, or user (QEMU's own stack); the source's if "
                  "absent",
          .complete = COMPLETE_NETWORK },
        { .name = "bridge",
          .type = OPT_STRING,
          AT(bridge),
          .metavar = "DEV",
          .help = "put the interfaces on this Linux bridge",
          .complete = COMPLETE_BRIDGE },
        { .name = "nics",
          .type = OPT_INT,
          AT(nics),
          .metavar = "N",
          .help = "number of network interfaces; the snapshot's if absent" },
        { .name = "queue-size",
          .type = OPT_INT,
          AT(queue_size),
          .metavar = "N",
          .help = "ring depth of the new interfaces; 0 is the snapshot's" },
        { .name = "disk-queue-size",
          .type = OPT_INT,
          AT(disk_queue_size),
          .metavar = "N",
          .help = "ring depth of disks; 0 is the snapshot's" },
        { .name = "no-direct-io",
          .type = OPT_BOOL,
          AT(no_direct_io),
          .help = "writable disks go through the host's page cache; the snapshot's if absent" },
        { .name = "pull",
          .type = OPT_BOOL,
          AT(pull),
          .help = "fetch the base image by its recorded digest if it is missing" },
        { .name = "data-disk",
          .type = OPT_STRINGS,
          AT(data_disk),
          .metavar = "SPEC",
          .help = "add a data disk",
          .refuse = OPT_LATER },
        { .name = "no-guest-setup",
          .type = OPT_BOOL,
          AT(no_guest_setup),
          .help = "leave the guest as it is, and show the commands to set it up" },
        { 0 },
};

static const struct opt_group groups[] = {
        { rows, 0, NULL },
        { source_opts, offsetof(struct options, source), "Source" },
        { output_opts, offsetof(struct options, out), "Output" },
        { 0 },
};

static const struct opt_exclusive excludes[] = { { "bridge", "network", NULL }, { 0 } };

const struct cmd cmd_vm_clone = {
        .path = "vm clone",
        .args = "[SNAPSHOT]",
        .max = 1,
        .help = "Make a running VM from a snapshot",
        .long_help =
                "The clone goes on where the snapshot was taken, as a VM of its own: with its own "
                "name, addresses and disks. Processors, memory and storage are the snapshot's. "
                "Where the guest has an agent, it takes over the new name and addresses by itself, "
                "and fresh entropy and a new machine-id; else the commands to do it by hand are "
                "shown.",
        .examples = "cocoon vm clone --name web-2 golden\n"
                    "cocoon vm clone --from-dir /backup/golden\n",
        .opts = groups,
        .excludes = excludes,
        .size = sizeof(struct options),
        .complete = COMPLETE_SNAPSHOT,
        .run = run,
};
