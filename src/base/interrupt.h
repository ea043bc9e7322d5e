/*
 * Cancellation: SIGINT and SIGTERM set a flag and make a descriptor readable; loops check the flag,
 * waits add the descriptor to their poll set. Rollback runs inside cc_uninterruptible sections.
 */
#pragma once

#include <stdbool.h>

/* Install the handlers (main only). A second signal changes nothing: rollback is bounded elsewhere.
 */
void cc_interrupt_setup(void);

/* True once a signal came, unless inside an uninterruptible section. */
bool cc_interrupted(void);

/* The signal that came, 0 if none. */
int cc_interrupt_signal(void);

/* Readable once a signal came; -1 before cc_interrupt_setup(). Never read it. */
int cc_interrupt_fd(void);

/* The descriptor to put into a poll set: cc_interrupt_fd(), but -1 (which poll(2) skips) once a
 * signal came that an uninterruptible section hides, so that the wait does not spin on it. */
int cc_interrupt_wait_fd(void);

/* Nesting sections in which cc_interrupted() is false (rollback, resume of a paused guest). */
void cc_uninterruptible_begin(void);
void cc_uninterruptible_end(void);
