/* sqlstate.h -- what an error of the database means.
 *
 * The one place where that is decided, also for the Lua half (pgcdc.raw). Nothing here waits or
 * tries again: capture/reader does what was decided.
 *
 * SPDX-License-Identifier: MIT */
#ifndef SQLSTATE_H
#define SQLSTATE_H

#include "base/err.h"

#include <stdint.h>

enum sqlstate_action {
    SQLSTATE_STOP,     /* the program was asked to stop */
    SQLSTATE_RETRY,    /* it will pass: try again on a new connection, after a while */
    SQLSTATE_PATIENCE, /* it may pass: try again for a minute, then give up */
    SQLSTATE_GIVE_UP,
};

/* Who tries again: a source, or a sink that writes to a database. They differ in one state each. */
enum sqlstate_user { SQLSTATE_SOURCE = 1, SQLSTATE_TARGET = 2 };

/* True if <user> tries again after an error with this SQLSTATE. Pure. */
bool sqlstate_passes(const char *state, enum sqlstate_user user);

/* True if the server may decode its log later on, after an error with this SQLSTATE in the middle
 * of that: what stands in the log does not change, so most come again. Pure. */
bool sqlstate_passes_in_log(const char *state);

/* What a source does after <e>. <has_worked>: it has read its table before, so its declaration was
 * right then. Pure. */
enum sqlstate_action sqlstate_action(const struct err *e, bool has_worked);

/* True if an error of a statement behind a savepoint ends the transaction nevertheless, or may.
 * Pure. */
bool sqlstate_ends_transaction(const struct err *e);

/* How many milliseconds to wait after so many failures in a row: 100, then 500, 1000, 2000 ...
 * 30000. Each is up to a quarter more or less, which the clock decides. */
int64_t sqlstate_backoff_ms(unsigned failures);

#endif
