/* session.c -- the settings of sessions.
 * SPDX-License-Identifier: MIT */
#include "pg/session.h"

enum {
    ALL_TEXT = SESSION_CAPTURE | SESSION_CLIENT | SESSION_TARGET | SESSION_VERIFY |
               SESSION_STREAM,
    ALL_LONG = SESSION_UNLIMITED | SESSION_TARGET | SESSION_VERIFY,
};

static const struct {
    const char *name, *value;
    unsigned uses;
    int since; /* the first version that has it; 0: all that we support */
} settings[] = {
    /* how long things may take */
    { "statement_timeout", "0", ALL_LONG, 0 },
    { "lock_timeout", "0", SESSION_UNLIMITED | SESSION_VERIFY, 0 },
    { "lock_timeout", "'10s'", SESSION_TARGET, 0 },
    { "idle_in_transaction_session_timeout", "0", ALL_LONG, 0 },
    { "transaction_timeout", "0", ALL_LONG, 170000 },
    { "search_path", "''", SESSION_UNLIMITED | SESSION_VERIFY | SESSION_STREAM, 0 },
    /* how values are written */
    { "client_encoding", "'UTF8'", ALL_TEXT, 0 },
    { "DateStyle", "'ISO, YMD'", ALL_TEXT, 0 },
    { "IntervalStyle", "'postgres'", ALL_TEXT, 0 },
    { "TimeZone", "'UTC'", ALL_TEXT, 0 },
    { "extra_float_digits", "1", ALL_TEXT, 0 },
    { "bytea_output", "'hex'",
      SESSION_CAPTURE | SESSION_CLIENT | SESSION_VERIFY | SESSION_STREAM, 0 },
    { "quote_all_identifiers", "off",
      SESSION_CAPTURE | SESSION_TARGET | SESSION_VERIFY | SESSION_STREAM, 0 },
    { "lc_monetary", "'C'", SESSION_VERIFY, 0 },
    /* how they are read */
    { "standard_conforming_strings", "on", SESSION_CLIENT | SESSION_TARGET | SESSION_VERIFY, 0 },
    { "array_nulls", "on", SESSION_CAPTURE | SESSION_CLIENT | SESSION_VERIFY, 0 },
    { "xmloption", "content", SESSION_TARGET | SESSION_VERIFY, 0 },
    /* how tables are read */
    { "row_security", "off", SESSION_VERIFY, 0 }, /* a poll has its own, see sql_begin */
    { "enable_tidscan", "on", SESSION_CAPTURE, 0 },
    { "max_parallel_workers_per_gather", "0", SESSION_CAPTURE, 0 },
    { "jit", "off", SESSION_CAPTURE | SESSION_TARGET | SESSION_VERIFY, 0 },
};

void session_put(struct buf *b, enum session_use use, int version)
{
    const char *set = use == SESSION_CLIENT || use == SESSION_STREAM ? "SET" : "SET LOCAL";

    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        if ((settings[i].uses & (unsigned)use) != 0 && version >= settings[i].since)
            buf_printf(b, "%s %s = %s;", set, settings[i].name, settings[i].value);
}
