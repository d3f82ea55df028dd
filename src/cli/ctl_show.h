/* ctl_show.h -- shows what a running program has answered.
 *
 * SPDX-License-Identifier: MIT */
#ifndef CTL_SHOW_H
#define CTL_SHOW_H

#include "base/err.h"

/* Prints the first line of an answer, as it is or for people; an error goes to standard error.
 * *is_ok: whether what was asked for is done. *run: which run of the program it is of, owned, or
 * NULL. False: the answer cannot be read. */
bool ctl_show_answer(const char *line, bool as_json, bool *is_ok, char **run,
                     struct err *e) WARN_UNUSED;

/* Prints an error as JSON. */
void ctl_show_error(const char *text);

/* True if the answer is of this run. */
bool ctl_show_is_run(const char *line, const char *run);

/* ---- top ---- */

struct ctl_show_top;

/* Owned; NULL: out of memory. On a terminal it takes the screen until it is freed. <as_json>: it
 * prints the answers, a line each. */
struct ctl_show_top *ctl_show_top_new(bool as_json);
void ctl_show_top_free(struct ctl_show_top *t);

/* Shows an answer to "status", or <error> where there is none. False: standard output is closed. */
bool ctl_show_top(struct ctl_show_top *t, const char *line, const char *error);

/* Waits. False: the user wants it to end. */
bool ctl_show_top_wait(struct ctl_show_top *t, double seconds);

#endif
