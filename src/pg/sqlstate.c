/* sqlstate.c -- what an error of the database means.
 * SPDX-License-Identifier: MIT */
#include "pg/sqlstate.h"

#include "base/clock.h"

#include <string.h>

static enum sqlstate_action meaning_of_sqlstate(const char *state, bool has_worked)
{
    static const char *const passing[] = {
        "57P01", "57P02", "57P03", "57P05", /* shut down, crashed, starting up, idle too long */
        "40001", "40P01", "57014",          /* a recovery conflict, a deadlock, cancelled */
        "55P03", "55000",                   /* locked; promoted between two questions */
    };
    static const char *const altered[] = { "42P01", "3F000", "42703", "42P02", "42804", "42883" };

    if (strncmp(state, "08", 2) == 0 || strncmp(state, "53", 2) == 0)
        return SQLSTATE_RETRY;
    for (size_t i = 0; i < sizeof passing / sizeof *passing; i++)
        if (strcmp(state, passing[i]) == 0)
            return SQLSTATE_RETRY;
    for (size_t i = 0; has_worked && i < sizeof altered / sizeof *altered; i++)
        if (strcmp(state, altered[i]) == 0)
            return SQLSTATE_PATIENCE;
    return SQLSTATE_GIVE_UP;
}

/* Where libpq itself declines to go on it gives no SQLSTATE, only a text. */
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
        /* it does not heal by itself, unless a file is just being replaced */
        if (is_our_refusal(e->msg))
            return has_worked ? SQLSTATE_PATIENCE : SQLSTATE_GIVE_UP;
        return SQLSTATE_RETRY;
    case ERR_BEHIND:
        return SQLSTATE_RETRY;
    case ERR_SQL:
        return e->sqlstate[0] == '\0' && has_worked ? SQLSTATE_PATIENCE
                                                    : meaning_of_sqlstate(e->sqlstate, has_worked);
    case ERR_NONE:
    case ERR_USAGE:
    case ERR_SCRIPT:
    case ERR_REFUSED:
    case ERR_STATE:
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
