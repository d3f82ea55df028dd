/* err.h -- what went wrong, as a value.
 *
 * The function that detects an error fills it in; its callers may put a context in front;
 * host or main logs it; main makes an exit status of it. It has a fixed size, so that the
 * error path cannot fail. It never holds a password.
 *
 * SPDX-License-Identifier: MIT */
#ifndef ERR_H
#define ERR_H

#include "base/warn.h"

#include <stdbool.h>

enum err_code {
    ERR_NONE,
    ERR_USAGE,      /* the command line or an option word */
    ERR_SCRIPT,     /* the script threw, or declared nonsense */
    ERR_CONNECTION, /* the connection is lost or cannot be made */
    ERR_SQL,        /* the server answered a statement with an error: see sqlstate */
    ERR_DECODING,   /* the server fails to decode its log: see sqlstate */
    ERR_ANSWER,     /* the server answered what no such statement is answered with */
    ERR_REFUSED,    /* the database is there but cannot be captured as asked */
    ERR_BEHIND,     /* a standby that has not yet replayed all that was read before */
    ERR_STATE,      /* the state, or a temporary file beside its file */
    ERR_TAKEN,      /* another process has taken over the pipeline */
    ERR_OUTPUT,     /* standard output cannot be written */
    ERR_STOPPED,    /* interrupted because the program is stopping */
    ERR_MEMORY,     /* malloc failed */
    ERR_INTERNAL,   /* none of the above: a bug or an exhausted system */
};

struct err {
    enum err_code code;
    char sqlstate[6]; /* "" where the server gave none */
    char msg[2048];   /* one line, UTF-8 */
};

/* Fills <e> and returns false, so that a function can end with
 * `return err_set(e, ...)`. Newlines in the text become spaces. */
bool err_set(struct err *e, enum err_code code, const char *fmt, ...) WARN_PRINTF(3, 4);

/* Puts a context and ": " in front of the message that <e> holds. Returns false. */
bool err_prefix(struct err *e, const char *fmt, ...) WARN_PRINTF(2, 3);

/* Fills <e> with ERR_MEMORY and its text. Returns false. */
bool err_memory(struct err *e);

/* The exit status of the program for an error of this kind; the manual page lists them. */
int err_exit_status(enum err_code code);

#endif
