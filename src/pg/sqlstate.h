/* sqlstate.h -- what an error of the database means.
 *
 * The one place where that is decided, also for the Lua half (pgcdc.raw). Pure functions.
 *
 * SPDX-License-Identifier: MIT */
#ifndef SQLSTATE_H
#define SQLSTATE_H

#include "base/err.h"

#include <stdint.h>

enum sqlstate_action {
    SQLSTATE_STOP,     /* we were asked to */
    SQLSTATE_RETRY,    /* it will pass: try again on a new connection, after a while */
    SQLSTATE_PATIENCE, /* it may pass: try again for a minute, then give up */
    SQLSTATE_GIVE_UP,
};

/* True if what failed with this is tried again: by a source, or by a sink that writes to a
 * database. The two differ in one state each. */
enum sqlstate_user { SQLSTATE_SOURCE = 1, SQLSTATE_TARGET = 2 };
bool sqlstate_passes(const char *state, enum sqlstate_user user);

/* <has_worked>: what the source asks of its table was right once. */
enum sqlstate_action sqlstate_action(const struct err *e, bool has_worked);

/* How long to wait after so many failures in a row: 0.1 s, then 0.5, 1, 2, 4 ... 30, each give or
 * take a quarter. */
int64_t sqlstate_backoff_ms(unsigned failures);

#endif
