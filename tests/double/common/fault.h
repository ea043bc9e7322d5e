/*
 * Faults on command: which requests a double answers wrongly, late or not at all. The knob FAULTS
 * names a file, read again at every request, with one JSON object a line:
 *
 *   {"endpoint":"vm.restore","nth":1,"do":"drop-after"}
 *
 * endpoint  as the journal names it; absent: every one
 * nth       which request to that endpoint (from 1, counted by this process); absent: every one
 * from      that one and all later ones, instead of nth
 * do        drop-before    close the connection, execute nothing
 *           drop-after     execute, then close without an answer
 *           cut            execute, send the first "bytes" bytes of the answer, then close
 *           reply          execute nothing, answer "status" with "body" (any JSON, a string is sent
 *                          as it is)
 *           raw            execute nothing, send "body" (a string) as the whole answer and close
 *           delay          hold the server up for "ms" before executing
 *           delay-after    the same between executing and answering
 *           hang           hold the server up for ever
 *           crash          SIGKILL to itself before executing
 *           crash-after    the same after executing, without an answer
 * The first line that matches counts.
 */
#pragma once

#include <jansson.h>
#include <stdint.h>

enum dbl_fault_kind {
        DBL_FAULT_NONE,
        DBL_FAULT_DROP_BEFORE,
        DBL_FAULT_DROP_AFTER,
        DBL_FAULT_CUT,
        DBL_FAULT_REPLY,
        DBL_FAULT_RAW,
        DBL_FAULT_DELAY,
        DBL_FAULT_DELAY_AFTER,
        DBL_FAULT_HANG,
        DBL_FAULT_CRASH,
        DBL_FAULT_CRASH_AFTER,
};

struct dbl_fault {
        enum dbl_fault_kind kind;
        int64_t ms, bytes;
        int status;
        json_t *body; /* owned; NULL without one */
};

struct dbl_faults;

struct dbl_faults *dbl_faults_new(const char *path); /* NULL: none, ever */
void dbl_faults_free(struct dbl_faults *f);

/* Count a request to `endpoint` and say what shall happen to it; ->body is the caller's to drop. A
 * malformed file is a mistake of the test and ends the process. */
struct dbl_fault dbl_faults_next(struct dbl_faults *f, const char *endpoint);

const char *dbl_fault_name(enum dbl_fault_kind kind);
