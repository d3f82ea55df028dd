/* home_lease_row.c -- a mutant of the lease, which a test must find out.
 * SPDX-License-Identifier: MIT
 *
 * The lease is renewed, and held against the time, by the clock of the machine that the program
 * runs on, not by that of the database.
 *
 * Linked in place of src/state/lease_row.c. */
#include "base/clock.h"
#include "pg/conn.h"

static bool run_by_our_clock(struct conn *c, const char *sql, const struct result_shape *shapes,
                             struct result **results, size_t n, struct err *e);

#define conn_run run_by_our_clock
#include "../../src/state/lease_row.c"
#undef conn_run

static bool run_by_our_clock(struct conn *c, const char *sql, const struct result_shape *shapes,
                             struct result **results, size_t n, struct err *e)
{
    char now[CLOCK_TEXT];
    struct buf text;
    bool ok;

    clock_utc(now);
    buf_init(&text, BUF_SQL_MAX);
    for (const char *at; (at = strstr(sql, NOW)) != NULL; sql = at + sizeof NOW - 1) {
        buf_add(&text, sql, (size_t)(at - sql));
        buf_printf(&text, "'%s'::timestamptz", now);
    }
    buf_puts(&text, sql);
    ok = buf_ok(&text) ? conn_run(c, text.data, shapes, results, n, e) : err_memory(e);
    buf_fini(&text);
    return ok;
}
