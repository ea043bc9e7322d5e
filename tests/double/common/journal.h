/*
 * The journal: what a double saw and did, one JSON object a line, appended to the file that the
 * knob JOURNAL names (nothing without it). Every line has "event", "pid" and "ns" (monotonic
 * clock). Events:
 *   start            argv, env (object), cwd, netns (inode number)
 *   request          n, endpoint, method, path, body (JSON if it is, else text; absent without one)
 *   reply            n, status, body, fault (what a fault knob did; absent without one)
 *   retry-violation  n, first: a mutating request came again whose first answer was lost
 *   signal           signal
 *   control          command, answer
 *   guest            what: boot, power-button, poweroff, reboot…
 *   exit             status
 */
#pragma once

#include <jansson.h>

struct dbl_journal;

struct dbl_journal *dbl_journal_open(const char *path); /* NULL path: drops everything */
void dbl_journal_free(struct dbl_journal *j);

/* One line; takes over `fields`. */
void dbl_journal_add(struct dbl_journal *j, const char *event, json_t *fields);

/* The start line of this process. */
void dbl_journal_start(struct dbl_journal *j, int argc, char **argv);

/* Text as the journal holds it: the JSON value in it, else the text itself. New reference. */
json_t *dbl_journal_value(const char *text, size_t len);
