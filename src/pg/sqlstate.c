/* sqlstate.c -- what an error of the database means.
 * SPDX-License-Identifier: MIT */
#include "pg/sqlstate.h"

#include "base/clock.h"

#include <string.h>

#define BOTH (SQLSTATE_SOURCE | SQLSTATE_TARGET)

bool sqlstate_passes(const char *state, enum sqlstate_user user)
{
    static const struct { const char *state; unsigned users; } passing[] = {
        { "08", BOTH },               /* a class: the connection is lost */
        { "53", BOTH },               /* a class: the server is short of something */
        { "57P01", BOTH },            /* shut down */
        { "57P02", BOTH },            /* crashed */
        { "57P03", BOTH },            /* starting up */
        { "57P05", BOTH },            /* idle too long */
        { "40001", BOTH },            /* a recovery conflict, or writes that cross */
        { "40P01", BOTH },            /* a deadlock */
        { "57014", BOTH },            /* cancelled */
        { "55P03", BOTH },            /* locked */
        { "55000", SQLSTATE_SOURCE }, /* a standby was promoted between two statements */
        { "25P03", SQLSTATE_TARGET }, /* idle too long in a transaction */
    };

    for (size_t i = 0; i < sizeof passing / sizeof *passing; i++)
        if ((passing[i].users & (unsigned)user) != 0 &&
            strncmp(state, passing[i].state, strlen(passing[i].state)) == 0)
            return true;
    return false;
}

static enum sqlstate_action action_of(const char *state, bool has_worked)
{
    static const char *const altered[] = { "42P01", "3F000", "42703", "42P02", "42804", "42883" };

    if (sqlstate_passes(state, SQLSTATE_SOURCE))
        return SQLSTATE_RETRY;
    for (size_t i = 0; has_worked && i < sizeof altered / sizeof *altered; i++)
        if (strcmp(state, altered[i]) == 0)
            return SQLSTATE_PATIENCE;
    return SQLSTATE_GIVE_UP;
}

/* True if libpq itself refused to connect, for which it gives a text but no SQLSTATE. */
static bool is_our_refusal(const char *msg)
{
    static const char *const texts[] = {
        "certificate verify failed", "does not match host name", "certificate file \"",
        "private key file \"", "but SSL was required", "no password supplied",
    };

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (strstr(msg, texts[i]) != NULL)
            return true;
    return false;
}

enum sqlstate_action sqlstate_action(const struct err *e, bool has_worked)
{
    switch (e->code) {
    case ERR_STOPPED:
        return SQLSTATE_STOP;
    case ERR_CONNECTION:
        /* such a refusal does not pass by itself, unless a file is being replaced just now */
        if (is_our_refusal(e->msg))
            return has_worked ? SQLSTATE_PATIENCE : SQLSTATE_GIVE_UP;
        return SQLSTATE_RETRY;
    case ERR_BEHIND:
        return SQLSTATE_RETRY;
    case ERR_DECODING:
        return SQLSTATE_PATIENCE;
    case ERR_SQL:
        return e->sqlstate[0] == '\0' && has_worked ? SQLSTATE_PATIENCE
                                                    : action_of(e->sqlstate, has_worked);
    case ERR_NONE:
    case ERR_USAGE:
    case ERR_SCRIPT:
    case ERR_ANSWER:
    case ERR_REFUSED:
    case ERR_STATE:
    case ERR_TAKEN:
    case ERR_OUTPUT:
    case ERR_MEMORY:
    case ERR_INTERNAL:
        break;
    }
    return SQLSTATE_GIVE_UP;
}

int64_t sqlstate_backoff_ms(unsigned failures)
{
    int64_t ms = failures <= 1 ? 100 : failures >= 8 ? 30000 : (int64_t)500 << (failures - 2);

    return ms * 3 / 4 + (int64_t)((uint64_t)clock_mono_ns() / 64 % (uint64_t)(ms / 2));
}

/* (55000 passes for a source since its steps look what it means. 42704 is a publication that is not
 * there at that place of the log.) */
bool sqlstate_passes_in_log(const char *state)
{
    return sqlstate_passes(state, SQLSTATE_SOURCE) && strcmp(state, "55000") != 0;
}

bool sqlstate_ends_transaction(const struct err *e)
{
    static const char *const classes[] = { "25", "40", "53", "57" };

    if (e->code != ERR_SQL)
        return true;
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        if (strncmp(e->sqlstate, classes[i], 2) == 0)
            return true;
    return false;
}
