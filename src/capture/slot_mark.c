/* slot_mark.c -- where a slot begins: the mark from which on a source goes by the log.
 * SPDX-License-Identifier: MIT */
#include "capture/slot_mark.h"

#include "base/clock.h"
#include "capture/slot_errors.h"
#include "capture/slot_holder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void slot_mark_forget(struct slot_mark *m)
{
    replication_close(m->exporter, NULL);
    m->exporter = NULL;
    m->lsn = 0;
}

void slot_mark_fini(struct slot_mark *m)
{
    slot_mark_forget(m);
    free(m->shown);
    m->shown = NULL;
}

static const struct result_shape text_shape = { "the slot's snapshot", "t", 1, 1 };

/* Reads which xids the snapshot shows. */
static bool read_snapshot(struct slot_mark *m, struct conn *conn, struct err *e)
{
    struct result *rows = NULL;
    struct buf sql;
    bool ok;

    buf_init(&sql, BUF_SQL_MAX);
    buf_printf(&sql, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;SET TRANSACTION SNAPSHOT '%s'"
               ";SELECT pg_catalog.pg_current_snapshot();COMMIT", m->name);
    ok = buf_ok(&sql) ? conn_run(conn, sql.data, &text_shape, &rows, 1, e) : err_memory(e);
    buf_fini(&sql);
    if (ok) {
        free(m->shown);
        m->shown = strdup(result_text(rows, 0, 0));
        ok = m->shown != NULL || err_memory(e);
    }
    result_free(rows);
    return ok;
}

/* The slot of the position is ours, and nobody relies on it: what it has is of no use. */
static bool drop_slot(const struct config *c, struct replication *r, struct err *e)
{
    struct err why;

    if (replication_drop_slot(r, c->slot, &why) || strcmp(why.sqlstate, "42704") == 0)
        return true;
    *e = why;
    return false;
}

static bool make_slot(struct slot_mark *m, struct replication *r, struct conn *conn,
                      const struct slot_mark_request *q, struct err *e)
{
    const struct config *c = q->config;
    struct replication_slot slot;
    char name[80];

    if (!q->is_beside && !drop_slot(c, r, e))
        return false;
    snprintf(name, sizeof name, q->is_beside ? "%.50s_%zu" : "%.63s", c->slot, q->number);
    if (!replication_create_slot(r, name, q->is_beside ? REPLICATION_TEMPORARY
                                 : c->has_failover ? REPLICATION_FAILOVER
                                                   : REPLICATION_LASTING, &slot, e))
        return false;
    memcpy(m->name, slot.snapshot, sizeof m->name);
    if (!read_snapshot(m, conn, e))
        return false;
    m->lsn = slot.lsn;
    return true;
}

/* Somebody else who reads the slot is waited for, for a while. True: it is free. */
static bool explain(struct slot_mark *m, struct conn *conn, const struct config *c, struct err *e)
{
    int64_t now = clock_mono_ms();

    if (slot_errors_explain(c, conn, e))
        return true;
    if (!slot_errors_is_in_use(e)) {
        m->in_use_ms = 0;
        return false;
    }
    if (m->in_use_ms == 0)
        m->in_use_ms = now;
    if (now >= m->in_use_ms + SLOT_ERRORS_IN_USE_MS)
        e->code = ERR_REFUSED;
    return false;
}

bool slot_mark_make(struct slot_mark *m, struct conn *conn, const struct slot_mark_request *q,
                    struct err *e)
{
    struct replication *r;
    int tries = 0;

    while ((r = slot_holder_open(q->config, conn, NULL, e)) == NULL ||
           !make_slot(m, r, conn, q, e)) {
        replication_close(r, NULL);
        if (!explain(m, conn, q->config, e) || ++tries == 3)
            return false;
    }
    m->in_use_ms = 0;
    if (q->keeps)
        m->exporter = r;
    else
        replication_close(r, NULL);
    return true;
}
