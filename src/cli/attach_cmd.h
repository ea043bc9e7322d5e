/* What the attach and detach verbs share: entering, and printing their results (cli.md §5.2). */
#pragma once

#include "cli/cli.h"
#include "cli/output.h"
#include "vm/attach.h"

/* Attach to cli->args[0]; prints {"id", <key_name>, "vm"} and logs one line. `shown` is the value
 * of key_name. */
int attach_run(struct cli *cli, const struct output_flags *out, const struct hv_attachment *what,
               const char *key_name, struct cc_err *err);

/* Detach by key; prints {<key_name>, "vm"}. */
int detach_run(struct cli *cli, const struct output_flags *out, enum hv_attach_kind kind,
               const char *key_name, const char *key, struct cc_err *err);

/* The value of `attached_devices`; NULL when there are none. New reference. */
json_t *attach_list_json(const struct hv_attachments *list);
