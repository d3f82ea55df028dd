/* reread_log.c -- what is read again of a source whose changes come by the log.
 * SPDX-License-Identifier: MIT */
#include "capture/reread_log.h"

#include "base/clock.h"

#include <inttypes.h>
#include <string.h>

#define INVISIBLE_MS 20 /* a commit that is in the log is looked for again so much later */

static const struct result_shape is_young_shape = { "the rows of a range", "b", 1, 1 };

const char *reread_log_why_not(const struct source *s)
{
    if (s->facts.identity.in_recovery)
        return "a standby does not say which transactions are under way: --reset=SOURCE begins "
               "anew, and the primary reads rows again";
    if (s->facts.rowtype != NULL && !log_keys_can_tell(s->facts.rowtype))
        return "the log does not tell its rows apart by their key; --reset=SOURCE begins anew";
    return NULL;
}

bool reread_log_is_due(const struct source *s)
{
    return !s->reread_wait.waits && s->position.logical.inside.commit == 0;
}

/* True if the range may have rows whose xid is not below the floor. */
static bool has_young(const struct source *s, const struct method_extent *extent,
                      struct conn *conn, bool *has, struct err *e)
{
    const struct sql_query q = method_query(s);
    struct result *rows = NULL;
    struct buf sql;
    bool ok;

    buf_init(&sql, BUF_SQL_MAX);
    buf_puts(&sql, "SELECT EXISTS (SELECT");
    sql_put_from(&sql, &q, extent->leaf);
    sql_put_ident(&sql, q.table->name);
    buf_printf(&sql, ".ctid >= '(%" PRIu32 ",0)'::tid AND ", extent->block);
    sql_put_ident(&sql, q.table->name);
    buf_printf(&sql, ".ctid < '(%" PRIu32 ",0)'::tid AND age(", extent->end);
    sql_put_ident(&sql, q.table->name);
    buf_printf(&sql, ".xmin) <= (SELECT age('%" PRIu32 "'::xid)))",
               horizon_floor32(s->position.horizon.floor));
    ok = buf_ok(&sql) ? conn_run(conn, sql.data, &is_young_shape, &rows, 1, e) : err_memory(e);
    *has = ok && result_bool(rows, 0, 0);
    result_free(rows);
    buf_fini(&sql);
    return ok;
}

static bool refuse(const char *why, struct err *e)
{
    err_set(e, ERR_SQL, "%s", why);
    memcpy(e->sqlstate, "0A000", 6);
    return false;
}

bool reread_log_begin(struct log_keys *keys, struct source *s, const struct method_extent *extent,
                      struct conn *conn, bool *is_ready, struct err *e)
{
    const char *why_not = reread_log_why_not(s);
    bool has;

    *is_ready = false;
    log_keys_fini(keys);
    s->reread_wait.from_ms = 0;
    if (why_not != NULL)
        return refuse(why_not, e);
    if (log_leaves_has_new(&s->log_leaves, &s->position)) /* they are read first */
        return true;
    if (!logical_shows_all(&s->facts.snapshot, &s->position.horizon.seen)) {
        s->reread_wait.from_ms = clock_mono_ms() + INVISIBLE_MS;
        return true;
    }
    if (!has_young(s, extent, conn, &has, e) ||
        (has && !log_keys_read(keys, s, s->facts.identity.lsn, conn, e)))
        return false;
    *is_ready = !keys->is_full;
    return true;
}

bool reread_log_take(struct log_keys *keys, const struct source *s, struct method_row *row,
                     struct err *e)
{
    bool ok;

    if (!method_take_xmin(s, row, false, e))
        return false;
    row->is_old = true;
    if (row->fate == METHOD_DELIVER && !horizon_is_new(&s->position.horizon, row->xid))
        return true;
    row->fate = METHOD_DELIVER;
    if (keys->n == 0)
        return true;
    if (log_keys_find_row(keys, s, &(const char *){ row->p }, row->end, &ok) != NULL)
        row->fate = METHOD_SKIP;
    return ok || method_fail_row(e);
}

void reread_log_end(struct log_keys *keys, struct source *s)
{
    log_keys_fini(keys);
    s->reread_wait.waits = true;
    s->reread_wait.lsn = s->facts.identity.lsn;
}
