/*
 * The helper process of a PTY console. The real VMM forks one that waits for changes of the
 * window's size: a session of its own, with the VMM's command line, gone when the VMM is. It does
 * nothing here but be found by those who look for processes by command line.
 */
#pragma once

/* Fork it; it lives until the descriptor returned is closed, by us or by our death. -1: no helper.
 */
int ch_helper_start(void);
