/* counters.c -- asks the server what its statistics counters say of sources.
 * SPDX-License-Identifier: MIT */
#include "capture/counters.h"

#include "base/clock.h"
#include "capture/method.h"
#include "capture/sql_round.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* True if polls go by hints, which spare them more, and are never late. */
static bool has_hints(const struct source *s)
{
    return s->hints.function != NULL && hints_is_armed(&s->hints.rule, &s->position.horizon);
}

bool counters_are_wanted(struct source *s)
{
    const struct identity *then = &s->position.identity, *now = &s->facts.identity;

    s->quiet.is_used = s->quiet.asked.is_known = false;
    if (s->config->quiet_ms == 0 || s->position.phase != POSITION_POLL ||
        method_that_holds(&s->position) != &method_xmin || s->facts.table.n_leaves == 0)
        return false;
    if (now->in_recovery) {
        s->quiet.why = "a standby does not count what it replays";
        return false;
    }
    return !has_hints(s) && !then->in_recovery && strcmp(then->started, now->started) == 0 &&
           strcmp(then->stats, now->stats) == 0;
}

static void take(struct source *const *sources, size_t n, struct result *const *rows,
                 int64_t at_ms)
{
    bool is_counted = result_bool(rows[0], 0, 0);

    for (size_t i = 0; i < n; i++)
        sources[i]->quiet.why = is_counted ? NULL : "track_counts is off";
    for (size_t i = 0; is_counted && i < result_count(rows[1]); i++) {
        uint32_t which = result_u32(rows[1], i, 0);
        struct quiet_counters *c;

        if (which >= n)
            continue;
        c = &sources[which]->quiet.asked;
        *c = (struct quiet_counters){ .is_known = true, .sum = result_u64(rows[1], i, 1),
                                      .at_ms = at_ms };
        snprintf(c->reset, sizeof c->reset, "%s", result_text(rows[0], 0, 1));
    }
}

bool counters_ask(struct source *const *sources, size_t n, struct conn *conn, struct err *e)
{
    struct result *rows[SQL_ROUND_COUNTERS] = { NULL };
    const struct relation **tables = calloc(n, sizeof *tables);
    int64_t at_ms = clock_mono_ms();
    struct buf sql;
    bool ok;

    if (tables == NULL)
        return err_memory(e);
    for (size_t i = 0; i < n; i++)
        tables[i] = &sources[i]->facts.table;
    buf_init(&sql, BUF_SQL_MAX);
    sql_round_counters(&sql, tables, n);
    ok = buf_ok(&sql) ? conn_run(conn, sql.data, sql_round_counters_shapes, rows,
                                 SQL_ROUND_COUNTERS, e)
                      : err_memory(e);
    if (ok)
        take(sources, n, rows, at_ms);
    for (size_t i = 0; i < SQL_ROUND_COUNTERS; i++)
        result_free(rows[i]);
    buf_fini(&sql);
    free(tables);
    return ok;
}

bool counters_stand_still(const struct source *s)
{
    return s->polled != NULL && s->position.n_resume_points == 0 &&
           quiet_holds(&s->quiet, s->config->quiet_ms, clock_mono_ms());
}

bool counters_report(struct source *s, struct conn *conn, struct buf *b, struct err *e)
{
    const struct source_hints *h = &s->hints;
    struct source *const one[1] = { s };
    double seconds = (double)s->config->quiet_ms / 1000;

    if (s->config->quiet_ms == 0)
        return true;
    if (s->facts.identity.in_recovery)
        s->quiet.why = "a standby does not count what it replays";
    else if (!counters_ask(one, 1, conn, e))
        return false;
    if (s->quiet.why != NULL)
        buf_printf(b, ", quiet = %g does nothing: %s", seconds, s->quiet.why);
    else if (h->function != NULL)
        buf_printf(b, ", quiet = %g only while the WAL does not tell", seconds);
    else
        buf_printf(b, ", none for %g s while its counters stand still", seconds);
    return true;
}
