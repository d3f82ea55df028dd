/* step.c -- one poll, or one range of the snapshot, of one source.
 * SPDX-License-Identifier: MIT */
#include "capture/step.h"

#include "capture/badtext.h"
#include "capture/fault.h"
#include "capture/key_census.h"
#include "capture/method.h"
#include "capture/snapshot.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* What is being read, in this order. */
enum part {
    PART_NONE,   /* no row: the host gets a position to start from, or a floor that has risen */
    PART_RANGE,  /* of the snapshot */
    PART_XIDS,   /* that are there already */
    PART_LEAVES, /* that are new, one after the other */
    PART_POLL,
    PART_TALLY,  /* how many keys there are */
    PART_KEYS,   /* those that the host asks for */
};

/* What is under way between step_begin and the end of step_next. */
struct reading {
    enum part part;
    bool is_open;            /* a transaction is */
    bool in_copy;
    bool is_over;            /* all was read */
    bool is_finished;        /* the last chunk was made */
    bool is_start;           /* of a new position */
    const struct method_copy *copy; /* the one in hand */
    struct method_step method;
    struct snapshot_range range;
    size_t next_leaf;        /* the leaves before it in the facts are known, or were read */
    struct message *message; /* being filled */
    /* the last row handed out */
    bool has_out;
    struct chunk_row out;
    struct buf out_key;
};

struct step {
    struct source source;
    struct key_census census;
    bool is_resolved, has_tried, has_polled;
    struct reading reading;
};

static void drop_reading(struct step *step)
{
    struct reading *r = &step->reading;

    message_free(r->message);
    method_step_fini(&r->method);
    snapshot_range_fini(&r->range);
    buf_fini(&r->out_key);
    key_census_drop(&step->census);
    *r = (struct reading){ .is_finished = true };
    buf_init(&r->out_key, SIZE_MAX / 2);
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
    drop_reading(step);
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

/* True if rows come in an order in which the step can stop at any of them. */
static bool is_ordered(const struct reading *r)
{
    return r->part != PART_RANGE && !r->method.has_new_leaves && !r->method.is_held;
}

bool step_is_held(const struct step *step)
{
    return !is_ordered(&step->reading) || step->census.is_wanted;
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
           (step->census.is_owed && key_census_is_due(&step->census, s->config));
}

/* There is nothing to read. */
static bool begin_rise(struct step *step, enum step_found *found, struct err *e)
{
    bool has_risen;

    step->has_polled = true;
    if (!method_rise(&step->source, &has_risen, e))
        return false;
    *found = has_risen ? STEP_BEGUN : STEP_NOTHING;
    return true;
}

/* Whether the source's columns, key and condition work at all is to be known at its start. */
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

static bool begin_range(struct step *step, struct err *e)
{
    struct reading *r = &step->reading;

    if (!snapshot_begin(&step->source, &r->range, e))
        return false;
    r->part = r->range.end > 0 ? PART_RANGE : PART_NONE;
    return true;
}

static bool begin_poll(struct step *step, struct conn *conn, struct err *e)
{
    struct source *s = &step->source;
    struct reading *r = &step->reading;

    key_census_begin(&step->census, s->config, &s->position, &s->facts.table);
    if (!method_begin(s, &r->method, conn, e))
        return false;
    r->part = r->method.has_new_leaves ? PART_LEAVES : PART_POLL;
    return true;
}

/* Chooses what is read, in the transaction that is open. */
static bool begin_reading(struct step *step, enum fault_news news, struct conn *conn,
                          struct err *e)
{
    const struct source *s = &step->source;
    const struct method *m = method_of(s);
    struct reading *r = &step->reading;

    r->is_start = news != FAULT_GOES_ON;
    r->method.method = m;
    if (news == FAULT_STARTS_NOW && m->xids.put != NULL)
        r->part = PART_XIDS;
    if (r->is_start)
        return true;
    return s->position.phase == POSITION_SNAPSHOT && m->range.put != NULL
               ? begin_range(step, e)
               : begin_poll(step, conn, e);
}

/* The host waits for this word, if no first read is to come, or is under way. */
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

    assert(!step->reading.is_open);
    drop_reading(step);
    step->reading.is_finished = false;
    if (!fault_glance(s, conn, &is_unchanged, e))
        return false;
    if (is_unchanged && !wants_poll(step))
        return begin_rise(step, found, e);
    *found = STEP_BEGUN;
    if (!fault_begin(s, conn, &news, e))
        return false;
    step->reading.is_open = true;
    return try_query(step, conn, e) && begin_reading(step, news, conn, e) && add_ready(step, e);
}

/* ---- rows ---- */

/* A statement to be run before the COPY, or NULL: what reads all must not do so by an index. */
static const char *setting_of(const struct step *step)
{
    const struct reading *r = &step->reading;

    if (!step->source.declared->by_index)
        return NULL;
    if (r->copy->reads_all)
        return "SET LOCAL enable_seqscan = on";
    return r->method.has_new_leaves ? "SET LOCAL enable_seqscan = off" : NULL;
}

/* The next leaf that is new, or NULL. */
static const struct relation_leaf *next_leaf(struct step *step)
{
    const struct relation *t = &step->source.facts.table;
    struct reading *r = &step->reading;

    while (r->next_leaf < t->n_leaves) {
        const struct relation_leaf *leaf = &t->leaves[r->next_leaf++];

        if (position_leaf(&step->source.position, leaf->oid) == NULL)
            return leaf;
    }
    return NULL;
}

/* Chooses the COPY of the part in hand, and what it reads of, where that is not the table. */
static void choose_copy(struct step *step, struct method_extent *extent)
{
    const struct source *s = &step->source;
    struct reading *r = &step->reading;
    const struct method *m = r->method.method;

    *extent = (struct method_extent){ .block = r->range.block, .end = r->range.end };
    if (r->part == PART_LEAVES && (extent->leaf = next_leaf(step)) == NULL)
        r->part = PART_POLL;
    if (r->part == PART_RANGE)
        extent->leaf = relation_leaf(&s->facts.table, r->range.leaf);
    r->copy = r->part == PART_RANGE    ? &m->range
              : r->part == PART_XIDS   ? &m->xids
              : r->part == PART_LEAVES ? &m->leaf
                                       : r->method.copy;
}

/* Sends <sql>, which is consumed. */
static bool send_copy(struct step *step, struct conn *conn, struct buf *sql, struct err *e)
{
    bool ok = buf_ok(sql) ? conn_copy(conn, sql->data, e) : err_memory(e);

    buf_fini(sql);
    step->reading.in_copy = ok;
    return ok;
}

static bool start_copy(struct step *step, struct conn *conn, struct err *e)
{
    struct method_extent extent;
    const char *setting;
    struct buf sql;

    choose_copy(step, &extent);
    setting = setting_of(step);
    if (setting != NULL && !conn_run(conn, setting, NULL, 0, e))
        return false;
    buf_init(&sql, BUF_SQL_MAX);
    step->reading.copy->put(&step->source, &extent, &sql);
    return send_copy(step, conn, &sql, e);
}

static bool start_chunk(struct step *step, struct err *e)
{
    const struct source *s = &step->source;
    struct reading *r = &step->reading;
    struct chunk *chunk;

    if (r->message != NULL)
        return true;
    r->message = message_new(MESSAGE_ROWS, s->number);
    if (r->message == NULL)
        return err_memory(e);
    chunk = &r->message->chunk;
    if (s->facts.rowtype != NULL)
        chunk->rowtype = rowtype_ref(s->facts.rowtype);
    chunk->begins = !r->has_out;
    chunk->is_snapshot = r->part == PART_RANGE;
    chunk->leaf = r->range.leaf;
    chunk->end = r->range.end;
    chunk->is_ordered = is_ordered(r);
    chunk->is_recheck = r->method.is_recheck;
    chunk->reads = s->position.reads;
    return true;
}

/* True if this row of the range was delivered before the program was stopped in the middle of it.
 */
static bool was_delivered(struct step *step, const struct method_row *row)
{
    struct snapshot_range *range = &step->reading.range;
    const char *fields = row->p;
    uint64_t hash;

    if (range->done.n == 0 || (step->source.config->deletes &&
                               !key_census_read_hash(&fields, row->end, &hash)))
        return false;
    return snapshot_has_delivered(range, step->source.facts.rowtype, fields,
                                  (size_t)(row->end - fields));
}

/* Adds a row to the chunk in hand. */
static bool deliver(struct step *step, struct method_row *row, struct err *e)
{
    struct source *s = &step->source;
    struct chunk_row out = { .xid = row->xid, .is_key_only = row->is_tombstone };
    struct chunk *chunk;

    if (!start_chunk(step, e))
        return false;
    chunk = &step->reading.message->chunk;
    if (s->config->deletes &&
        !key_census_take_hash(&step->census, chunk, &row->p, row->end, e))
        return false;
    out.len = (uint32_t)(row->end - row->p);
    out.op = row->is_tombstone || rowtype_is_soft_deleted(s->facts.rowtype, row->p, out.len)
                 ? OP_DELETE
             : row->is_old ? OP_READ
                           : OP_UPSERT;
    return chunk_add(chunk, &out, row->p) || err_memory(e);
}

static bool take_line(struct step *step, const char *text, size_t len, struct err *e)
{
    struct reading *r = &step->reading;
    struct method_row row = { .p = text, .end = text + len };

    if (len > UINT32_MAX)
        return method_fail_row(e);
    if (!r->copy->take(&step->source, &r->method, &row, e))
        return false;
    switch (row.fate) {
    case METHOD_SKIP:
        return true;
    case METHOD_LEAVE:
        r->method.has_left = true;
        return key_census_leave(&step->census, row.p, row.end, e);
    case METHOD_DELIVER:
        break;
    }
    if (r->part == PART_RANGE) {
        if (was_delivered(step, &row))
            return true;
        step->source.position.rows++;
    }
    return deliver(step, &row, e);
}

/* A COPY of rows is over. */
static void end_copy(struct step *step)
{
    struct reading *r = &step->reading;

    r->in_copy = false;
    if (r->part == PART_POLL && step->census.is_wanted && !step->census.is_skipped)
        r->part = PART_TALLY;
    else if (r->part != PART_LEAVES)
        r->is_over = true;
}

/* Fills the chunk in hand until it is full or the COPY is over. */
static bool fill_chunk(struct step *step, struct conn *conn, struct err *e)
{
    struct reading *r = &step->reading;
    const char *text;
    size_t len;

    while (r->message == NULL || !chunk_is_full(&r->message->chunk)) {
        switch (conn_copy_next(conn, &text, &len, e)) {
        case CONN_COPY_ROW:
            if (!take_line(step, text, len, e))
                return false;
            break;
        case CONN_COPY_END:
            end_copy(step);
            return true;
        case CONN_COPY_FAILED:
            return false;
        }
    }
    return true;
}

/* ---- the census ---- */

static bool start_census(struct step *step, struct conn *conn, struct err *e)
{
    const struct sql_query q = method_query(&step->source);
    struct buf sql;

    buf_init(&sql, BUF_SQL_MAX);
    if (step->reading.part == PART_TALLY)
        sql_tally(&sql, &q);
    else
        sql_keys(&sql, &q, step->census.asked);
    return send_copy(step, conn, &sql, e);
}

/* Reads what the census wants; *message is what the host is to get of it, or, with the step over,
 * NULL. */
static bool read_census(struct step *step, struct conn *conn, struct message **message,
                        struct err *e)
{
    const struct source *s = &step->source;
    struct reading *r = &step->reading;
    bool is_over;

    if (r->part == PART_KEYS && (r->is_over = step->census.asked == NULL))
        return true;
    if (!r->in_copy && !start_census(step, conn, e))
        return false;
    if (r->part == PART_TALLY) {
        r->in_copy = false;
        r->part = PART_KEYS; /* of which the host is to say */
        return key_census_read_tally(&step->census, conn, s->number, s->facts.rowtype, message, e);
    }
    if (!key_census_read_keys(&step->census, conn, s->number, &s->position.horizon, &s->facts,
                              message, &is_over, e))
        return false;
    r->in_copy = !is_over;
    r->is_over = is_over;
    return true;
}

/* ---- the end ---- */

/* All of the step was read. */
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
    if (r->part == PART_NONE)
        return true;
    if (!(r->part == PART_XIDS ? method_start : m->advance)(s, &r->method, e))
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

    if (r->is_open && !conn_run(conn, "COMMIT", NULL, 0, e))
        return false;
    r->is_open = false;
    r->is_finished = true;
    if (!start_chunk(step, e))
        return false;
    chunk = &r->message->chunk;
    if (!move_position(step, e))
        return false;
    key_census_complete(&step->census);
    chunk->is_lazy = !was_snapshot && !r->is_start && chunk->n_rows == 0 && !r->has_out;
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
    r->out = chunk->rows[chunk->n_rows - 1];
    if (!chunk->is_ordered)
        return true;
    buf_clear(&r->out_key);
    return chunk_row_key(chunk, &r->out, &r->out_key) || err_memory(e);
}

/* Reads until there is a chunk to hand out, *message of the census, or no more. */
static bool read_part(struct step *step, struct conn *conn, struct message **message,
                      struct err *e)
{
    struct reading *r = &step->reading;

    r->is_over = r->is_over || r->part == PART_NONE;
    while (!r->is_over && *message == NULL &&
           (r->message == NULL || !chunk_is_full(&r->message->chunk))) {
        if (r->part == PART_TALLY || r->part == PART_KEYS) {
            if (!read_census(step, conn, message, e))
                return false;
        } else if ((!r->in_copy && !start_copy(step, conn, e)) || !fill_chunk(step, conn, e)) {
            return false;
        }
    }
    return true;
}

bool step_next(struct step *step, struct conn *conn, struct message **message, struct err *e)
{
    struct reading *r = &step->reading;

    *message = source_take_message(&step->source);
    if (*message != NULL || r->is_finished)
        return true;
    if (!read_part(step, conn, message, e))
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
    if (r->has_out && !step_is_held(step) && buf_ok(&r->out_key)) {
        const struct position_last last = {
            .xid = r->out.xid,
            .is_tombstone = r->out.is_key_only,
            .is_recheck = r->method.is_recheck,
            .key = r->out_key.data,
            .len = r->out_key.len,
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

/* Says in a line what would be captured. */
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
