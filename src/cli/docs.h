/* The manual from the command and flag rows: groff man pages and docs/cli.md. */
#pragma once

#include "cli/cmd.h"

/* cocoon-vm-run(1). */
void docs_man_command(const struct cmd *cmd, struct cc_buf *ret);

/* cocoon(1): the overview. */
void docs_man_overview(struct cc_buf *ret);

/* The whole reference as one Markdown page. */
void docs_markdown(struct cc_buf *ret);
