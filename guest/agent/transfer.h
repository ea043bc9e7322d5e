/* The processes that copy one file into and out of the guest, on their standard streams; child.h
 * says what they report. A file system that takes its time holds up nobody else. */
#pragma once

#include "frame.h"

/* Writes standard input to a temporary file beside the frame's path, syncs it, and renames it when
 * all has come. SIGTERM ends it without a trace. */
_Noreturn void transfer_put(const struct frame *frame, int report);

/* Writes the file to standard output. */
_Noreturn void transfer_get(const struct frame *frame, int report);
