/* Help text from the command and flag rows; the manual (docs.c) uses the same pieces. */
#pragma once

#include "cli/cmd.h"

#define HELP_WIDTH 80

/* Help of a command, or of a group, or (both NULL) of the whole program. */
void help_render(const struct cmd *cmd, const struct cmd_group *group, struct cc_buf *ret);

/* "cocoon vm run [flags] IMAGE". */
void help_usage(const struct cmd *cmd, struct cc_buf *ret);

/* "-o, --output FORMAT" or "    --cpu N". With `align` 4 blanks stand for a missing letter. */
void help_flag(const struct opt *o, bool align, struct cc_buf *ret);

/* The sentence about a flag: help, words, default, repeatable, refused. */
void help_flag_text(const struct opt *o, struct cc_buf *ret);

/* Append text wrapped at HELP_WIDTH: the cursor stands at `column`, further lines start at
 * `indent`. Newlines in the text are kept. Ends without newline. */
void help_wrap(const char *text, size_t column, size_t indent, struct cc_buf *ret);
