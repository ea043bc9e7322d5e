/*
 * Progress of long work on stderr (cli.md §11.1): one line redrawn at most ten times a second on a
 * terminal, or plain lines. Log lines step around it. One display at a time.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Start a display. `mode`: auto (nothing unless stderr is a terminal), plain, none. */
void progress_begin(const char *mode);

/* What is being done and how far: bytes done of total (0: unknown). Any thread. */
void progress_update(const char *what, int64_t done, int64_t total);

/* A step is finished: one plain line in plain mode; nothing on a terminal. Any thread. */
void progress_step(const char *what);

/* Clear the line and stop. Harmless when nothing runs. */
void progress_end(void);
