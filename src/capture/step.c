/* step.c -- one poll, or one range of the snapshot, of one source.
 * SPDX-License-Identifier: MIT */
#include "capture/step.h"

#include "capture/badtext.h"
#include "capture/fault.h"
#include "capture/reading.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct step {
    struct source source;
    struct key_census census;
    bool is_resolved, has_tried, has_polled;
    /* between step_begin and the end of step_next: */
    struct reading reading;
    bool is_open;         /* a transaction is open */
    bool is_start;        /* the step begins with a new position */
    bool is_finished;     /* the last chunk was made */
    struct chunk_row out; /* the last row handed out, of an ordered chunk with its key */
    struct buf out_key;
};

static void drop_reading(struct step *step)
{
    reading_fini(&step->reading);
    key_census_drop(&step->census);
    reading_init(&step->reading, &step->source, &step->census);
    step->is_open = step->is_start = false;
    step->is_finished = true;
    buf_fini(&step->out_key);
    buf_init(&step->out_key, SIZE_MAX / 2);
}

struct step *step_new(const struct config *config, size_t number)
{
    struct step *step = calloc(1, sizeof *step);

    if (step == NULL)
        return NULL;
    source_init(&step->source, config, number);
    step->census.is_owed = config->deletes;
    drop_reading(step);
    if (method_init(&step->source))
        return step;
    step_free(step);
    return NULL;
}

void step_free(struct step *step)
{
    if (step == NULL)
        return;
    reading_fini(&step->reading);
    key_census_drop(&step->census);
    buf_fini(&step->out_key);
    method_fini(&step->source);
    source_fini(&step->source);
    free(step);
}

bool step_resolve(struct step *step, struct conn *conn, struct err *e)
{
    struct source *s = &step->source;

    step->is_resolved = begin_resolve(&s->facts, conn, s->config,
                                      s->declared->without_xmin != NULL, e);
    return step->is_resolved;
}

bool step_is_resolved(const struct step *step)
{
    return step->is_resolved;
}

const char *step_schema(const struct step *step)
{
    return step->source.facts.table.schema;
}

const char *step_table(const struct step *step)
{
    return step->source.facts.table.name;
}

bool step_restore(struct step *step, const struct position *kept)
{
    return kept == NULL || source_restore(&step->source, kept);
}

void step_name_bad_column(struct step *step, struct conn *conn, struct err *e)
{
    const struct sql_query q = method_query(&step->source);

    badtext_name_column(conn, &q, step->source.config->rls, e);
}

bool step_is_in_snapshot(const struct step *step)
{
    return step->source.position.phase != POSITION_POLL;
}

bool step_has_polled(const struct step *step)
{
    return step->has_polled;
}

bool step_is_held(const struct step *step)
{
    return !reading_is_ordered(&step->reading) || step->census.is_wanted;
}

bool step_owes_census(const struct step *step)
{
    return step->census.is_owed;
}

bool step_answer(struct step *step, bool is_answered, const unsigned char *asked, struct err *e)
{
    return !is_answered || key_census_answer(&step->census, asked) || err_memory(e);
}

/* ---- the beginning ---- */

/* True if the method polls though nothing has committed, or the census is due. */
static bool wants_poll(const struct step *step)
{
    const struct source *s = &step->source;
    const struct method *m = method_of(s);

    return (m->wants_poll != NULL && m->wants_poll(s)) ||
           (step->census.is_owed && key_census_is_due(&step->census, s));
}

/* There is nothing to read, but the floor may rise. */
static bool begin_rise(struct step *step, enum step_found *found, struct err *e)
{
    bool has_risen;

    step->has_polled = true;
    if (!method_rise(&step->source, &has_risen, e))
        return false;
    *found = has_risen ? STEP_BEGUN : STEP_NOTHING;
    return true;
}

/* Finds out, once, whether the source's columns, key and condition work at all. */
static bool try_query(struct step *step, struct conn *conn, struct err *e)
{
    struct result *rows = NULL;
    struct buf sql;
    bool ok;

    if (step->has_tried)
        return true;
    buf_init(&sql, BUF_SQL_MAX);
    method_of_table(&step->source)->put_try(&step->source, &sql);
    ok = buf_ok(&sql) ? conn_run(conn, sql.data, &rows, 1, e) : err_memory(e);
    result_free(rows);
    buf_fini(&sql);
    step->has_tried = ok;
    return ok;
}

/* Chooses what is read, in the transaction that is open. */
static bool begin_reading(struct step *step, enum fault_news news, struct conn *conn,
                          struct err *e)
{
    const struct source *s = &step->source;
    const struct method *m = method_of(s);
    struct reading *r = &step->reading;

    step->is_start = news != FAULT_GOES_ON;
    r->method.method = m;
    if (news == FAULT_STARTS_NOW && m->xids.put != NULL)
        r->part = READING_XIDS;
    if (step->is_start)
        return true;
    return s->position.phase == POSITION_SNAPSHOT && m->range.put != NULL
               ? reading_begin_range(r, e)
               : reading_begin_poll(r, conn, e);
}

/* Tells the host if no first read is under way or to come. */
static bool add_ready(struct step *step, struct err *e)
{
    struct source *s = &step->source;
    const struct method *m = method_of(s);

    return s->position.phase != POSITION_POLL ||
           (m->is_silent != NULL && m->is_silent(&s->position)) || source_add_ready(s, e);
}

bool step_begin(struct step *step, struct conn *conn, enum step_found *found, struct err *e)
{
    struct source *s = &step->source;
    enum fault_news news;
    bool is_unchanged;

    assert(!step->is_open);
    drop_reading(step);
    step->is_finished = false;
    if (!fault_glance(s, conn, &is_unchanged, e))
        return false;
    if (is_unchanged && !wants_poll(step))
        return begin_rise(step, found, e);
    *found = STEP_BEGUN;
    if (!fault_begin(s, conn, &news, e))
        return false;
    step->is_open = true;
    return try_query(step, conn, e) && begin_reading(step, news, conn, e) && add_ready(step, e);
}

/* ---- the end ---- */

/* All of the step was read: moves the position over it. */
static bool move_position(struct step *step, struct err *e)
{
    struct source *s = &step->source;
    struct reading *r = &step->reading;
    const struct method *m = r->method.method;

    if (s->position.phase == POSITION_SNAPSHOT && m->range.put != NULL) {
        if (snapshot_advance(&s->position, &r->range))
            fault_end_snapshot(s);
        return true;
    }
    if (r->part == READING_NONE)
        return true;
    if (!(r->part == READING_XIDS ? method_start : m->advance)(s, &r->method, e))
        return false;
    step->has_polled = !r->method.goes_on;
    if (step->has_polled)
        fault_end_snapshot(s);
    return true;
}

/* Closes the transaction and turns the chunk in hand into the last one. */
static bool finish(struct step *step, struct conn *conn, struct err *e)
{
    struct reading *r = &step->reading;
    struct position *p = &step->source.position;
    bool was_snapshot = p->phase == POSITION_SNAPSHOT;
    struct chunk *chunk;

    if (step->is_open && !conn_run(conn, "COMMIT", NULL, 0, e))
        return false;
    step->is_open = false;
    step->is_finished = true;
    if (!reading_start_chunk(r, e))
        return false;
    chunk = &r->message->chunk;
    if (!move_position(step, e))
        return false;
    key_census_complete(&step->census);
    chunk->is_lazy = !was_snapshot && !step->is_start && chunk->n_rows == 0 && !r->has_out &&
                     !step->source.facts.is_new_rowtype;
    step->source.facts.is_new_rowtype = false;
    chunk->ends = true;
    if (!chunk_set_position(chunk, p))
        return err_memory(e);
    return p->phase != POSITION_POLL || !(was_snapshot || step->has_polled) ||
           source_add_ready(&step->source, e);
}

/* Remembers the last row of a chunk that is handed out. */
static bool hand_out(struct step *step, const struct chunk *chunk, struct err *e)
{
    struct reading *r = &step->reading;

    if (chunk->n_rows == 0)
        return true;
    r->has_out = true;
    step->out = chunk->rows[chunk->n_rows - 1];
    if (!chunk->is_ordered)
        return true;
    buf_clear(&step->out_key);
    return chunk_row_key(chunk, &step->out, &step->out_key) || err_memory(e);
}

bool step_next(struct step *step, struct conn *conn, struct message **message, struct err *e)
{
    struct reading *r = &step->reading;

    *message = source_take_message(&step->source);
    if (*message != NULL || step->is_finished)
        return true;
    if (!reading_next(r, conn, message, e))
        return false;
    if (*message != NULL)
        return true;
    if (r->is_over && !finish(step, conn, e))
        return false;
    if (!hand_out(step, &r->message->chunk, e))
        return false;
    *message = r->message;
    r->message = NULL;
    return true;
}

void step_abort(struct step *step, struct conn *conn)
{
    struct reading *r = &step->reading;

    if (conn != NULL)
        conn_rollback(conn);
    if (r->has_out && !step_is_held(step) && buf_ok(&step->out_key)) {
        const struct position_last last = {
            .xid = step->out.xid,
            .is_tombstone = step->out.is_key_only,
            .is_recheck = r->method.is_recheck,
            .key = step->out_key.data,
            .len = step->out_key.len,
        };

        if (!position_end_early(&step->source.position, &r->method.delivered, &last)) {
            /* no memory: the rows come again, which is allowed where something broke */
        }
    }
    drop_reading(step);
}

uint64_t step_announced_as(const struct step *step)
{
    const struct source *s = &step->source;

    return s->declared->announced_as != NULL ? s->declared->announced_as(s) : 0;
}

void step_stop_waiting(struct step *step)
{
    step->source.is_impatient = true;
}

/* ---- --check ---- */

/* Appends, in one line, what would be captured. */
static void put_report(const struct source *s, int server_version, struct buf *report)
{
    const struct begin_facts *f = &s->facts;
    const struct config *c = s->config;

    buf_printf(report, "table %s.%s", f->table.schema, f->table.name);
    if (f->table.is_tree)
        buf_printf(report, " (%zu leaves)", f->table.n_leaves);
    buf_puts(report, ", key ");
    for (size_t i = 0; i < f->rowtype->n_key; i++)
        buf_printf(report, "%s%s", i > 0 ? "," : "", f->rowtype->columns[f->rowtype->key[i]].name);
    buf_printf(report, ", %zu columns, every %g", f->rowtype->n_row,
               (double)c->interval_min_ms / 1000);
    if (c->interval_max_ms != c->interval_min_ms)
        buf_printf(report, " to %g", (double)c->interval_max_ms / 1000);
    buf_printf(report, " s%s%s", s->declared->report, c->column != NULL ? c->column : "");
    if (c->deletes)
        buf_printf(report, ", deletes%s%s", c->keeps_old ? ", old rows" : "",
                   c->skips_unchanged ? ", unchanged ones skipped" : "");
    buf_printf(report, ", Postgres %d.%d (%s)", server_version / 10000, server_version % 10000,
               f->identity.in_recovery ? "standby" : "primary");
}

bool step_check(struct step *step, struct conn *conn, struct buf *report, struct err *e)
{
    struct message *m;
    bool ok = fault_look(&step->source, conn, false, e) && try_query(step, conn, e);

    conn_rollback(conn);
    if (!ok)
        return false;
    put_report(&step->source, conn_version(conn), report);
    while ((m = source_take_message(&step->source)) != NULL) {
        if (m->kind == MESSAGE_NOTICE)
            buf_printf(report, "; %s", m->notice.err.msg);
        message_free(m);
    }
    return buf_ok(report) || err_memory(e);
}
