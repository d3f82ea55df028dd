/* capture.c -- one poll, or one range of the snapshot, of one source. floor 2
 *
 * How a snapshot can stop at any row: a position says which blocks are done, and, where a range of
 * blocks was left half done, the keys of the rows that were delivered of it. (To ask for each
 * row's ctid instead costs the server a tenth more, for every row, whether we are stopped or not.)
 *
 * SPDX-License-Identifier: MIT */
#include "capture.h"

#include "census.h"
#include "keyset.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define RANGE_BLOCKS 1024 /* 8 MB of table at a time, */
#define FIRST_BLOCKS 64   /* but little at first and at last, when only one side is at work */

/* What is under way between capture_begin and the end of capture_next. */
struct step {
    enum { READ_NOTHING, READ_RANGE, READ_POLL, READ_LEAF, READ_XMINS, READ_TALLY,
           READ_KEYS } what;
    bool is_open;            /* a transaction is */
    bool in_copy;
    bool is_over;            /* all was read */
    bool is_finished;        /* the last batch was made */
    bool is_start;           /* reads no row: only gives the host a position to start from */
    struct batch *batch;     /* being filled */
    struct xidset delivered; /* xids delivered by this poll */
    struct xidset baseline;  /* start = "now": xids that are there already */
    bool has_new_leaves;
    size_t next_leaf;        /* the leaves before it in the survey are known, or were read */
    /* a range */
    uint32_t leaf, end;
    struct keyset done;      /* its rows that were delivered before */
    struct buf key;          /* scratch */
    /* the last row handed out */
    bool has_out;
    struct row out;
    struct buf out_key;
};

struct capture {
    struct standing standing;
    struct step step;
    struct census census;
    bool is_resolved, has_tried, has_polled;
};

static void drop_step(struct capture *c)
{
    struct step *s = &c->step;

    batch_free(s->batch);
    xidset_fini(&s->delivered);
    xidset_fini(&s->baseline);
    keyset_fini(&s->done);
    buf_fini(&s->key);
    buf_fini(&s->out_key);
    census_drop(&c->census);
    *s = (struct step){ .is_finished = true };
    buf_init(&s->key, SIZE_MAX / 2);
    buf_init(&s->out_key, SIZE_MAX / 2);
}

struct capture *capture_new(const struct source_config *config, size_t number)
{
    struct capture *c = calloc(1, sizeof *c);

    if (c == NULL)
        return NULL;
    standing_init(&c->standing, config, number);
    c->census.is_owed = config->deletes;
    drop_step(c);
    return c;
}

void capture_free(struct capture *c)
{
    if (c == NULL)
        return;
    drop_step(c);
    standing_fini(&c->standing);
    free(c);
}

bool capture_resolve(struct capture *c, struct db *db, struct err *e)
{
    c->is_resolved = survey_resolve(&c->standing.survey, db, c->standing.config, e);
    return c->is_resolved;
}

bool capture_is_resolved(const struct capture *c)
{
    return c->is_resolved;
}

const char *capture_schema(const struct capture *c)
{
    return c->standing.survey.table.schema;
}

const char *capture_table(const struct capture *c)
{
    return c->standing.survey.table.name;
}

bool capture_restore(struct capture *c, const struct position *kept)
{
    return kept == NULL || standing_restore(&c->standing, kept);
}

bool capture_is_in_snapshot(const struct capture *c)
{
    return c->standing.position.phase != PHASE_POLL;
}

bool capture_has_polled(const struct capture *c)
{
    return c->has_polled;
}

bool capture_is_held(const struct capture *c)
{
    return c->step.what == READ_RANGE || c->step.has_new_leaves || c->census.is_wanted;
}

bool capture_owes_census(const struct capture *c)
{
    return c->census.is_owed;
}

bool capture_answer(struct capture *c, bool is_answered, const unsigned char *asked, struct err *e)
{
    return !is_answered || census_answer(&c->census, asked) || err_memory(e);
}

/* ---- ranges of the snapshot ---- */

static uint32_t range_length(const struct leaf *leaf)
{
    uint32_t left = leaf->blocks - leaf->next;
    uint32_t half = (leaf->next < left ? leaf->next : left) / 2;

    half = half < FIRST_BLOCKS ? FIRST_BLOCKS : half > RANGE_BLOCKS ? RANGE_BLOCKS : half;
    return half < left ? half : left;
}

static bool begin_range(struct capture *c, struct err *e)
{
    const struct position *p = &c->standing.position;
    struct step *s = &c->step;

    if (!standing_check_leaves(&c->standing, e))
        return false;
    for (size_t i = 0; i < p->n_leaves; i++) {
        const struct leaf *leaf = &p->leaves[i];

        if (leaf->next >= leaf->blocks)
            continue;
        s->what = READ_RANGE;
        s->leaf = leaf->oid;
        s->end = leaf->next + range_length(leaf);
        return p->done.keys == NULL || p->done.leaf != leaf->oid ||
               keyset_init(&s->done, p->done.keys) || err_memory(e);
    }
    return true;
}

static void finish_range(struct capture *c)
{
    struct position *p = &c->standing.position;
    struct leaf *leaf = c->step.what == READ_RANGE ? position_leaf(p, c->step.leaf) : NULL;

    if (leaf != NULL) {
        leaf->next = c->step.end;
        if (p->done.leaf == leaf->oid && p->done.end <= leaf->next)
            position_forget_done(p);
    }
    for (size_t i = 0; i < p->n_leaves; i++)
        if (p->leaves[i].next < p->leaves[i].blocks)
            return;
    p->phase = PHASE_POLL;
}

/* ---- polls ---- */

static void begin_poll(struct capture *c)
{
    const struct table_facts *t = &c->standing.survey.table;

    for (size_t i = 0; i < t->n_leaves; i++)
        if (position_leaf(&c->standing.position, t->leaves[i].oid) == NULL)
            c->step.has_new_leaves = true;
    census_begin(&c->census, c->standing.config, &c->standing.position, t);
    c->step.what = c->step.has_new_leaves ? READ_LEAF : READ_POLL;
}

static bool finish_poll(struct capture *c, struct err *e)
{
    struct position *p = &c->standing.position;
    struct step *s = &c->step;
    char *text = strdup(c->standing.survey.snapshot.text);

    if (text == NULL)
        return err_memory(e);
    free(c->standing.polled);
    c->standing.polled = text;
    if (!position_uncut(p, &s->delivered))
        return err_memory(e);
    if (s->what == READ_XMINS) {
        xidset_fini(&p->horizon.seen);
        p->horizon.seen = s->baseline;
        s->baseline = (struct xidset){ 0 };
    }
    if (!horizon_advance(&p->horizon, &c->standing.survey.snapshot, &s->delivered,
                         standing_durable_bound(&c->standing)))
        return err_memory(e);
    c->has_polled = s->what != READ_XMINS;
    return standing_know_leaves(&c->standing, e);
}

/* Nothing has committed, but what had was flushed meanwhile: the floor may rise. */
static bool begin_rise(struct capture *c, enum capture_found *found, struct err *e)
{
    struct horizon *h = &c->standing.position.horizon;
    uint64_t floor = h->floor;
    bool was_guarded = c->standing.position.floor_lsn != 0;

    *found = CAPTURE_NOTHING;
    if (c->standing.position.identity.in_recovery ||
        (floor >= c->standing.survey.snapshot.xmin && !was_guarded && c->standing.durable.n == 0))
        return true;
    standing_keep_identity(&c->standing);
    if (!horizon_advance(h, &c->standing.survey.snapshot, &c->step.delivered,
                         standing_durable_bound(&c->standing)))
        return err_memory(e);
    if (h->floor == floor && was_guarded == (c->standing.position.floor_lsn != 0))
        return true;
    *found = CAPTURE_STEP;
    return true;
}

static void describe(const struct capture *c, struct query *q)
{
    *q = (struct query){
        .table = &c->standing.survey.table,
        .shape = c->standing.survey.shape,
        .where = c->standing.config->where,
        .through_root = c->standing.config->rls,
        .with_hash = c->standing.config->deletes,
    };
}

/* Whether the source's columns, key and condition work at all is to be known at its start. */
static bool try_query(struct capture *c, struct db *db, struct err *e)
{
    struct db_rows *rows = NULL;
    struct query q;
    struct buf sql;
    bool ok;

    if (c->has_tried)
        return true;
    describe(c, &q);
    buf_init(&sql, BUF_SQL_MAX);
    query_try(&sql, &q);
    ok = buf_ok(&sql) ? db_run(db, sql.data, &rows, 1, e) : err_memory(e);
    db_rows_free(rows);
    buf_fini(&sql);
    c->has_tried = ok;
    return ok;
}

bool capture_begin(struct capture *c, struct db *db, enum capture_found *found, struct err *e)
{
    struct standing *t = &c->standing;
    enum standing_news news;
    bool is_unchanged;

    assert(!c->step.is_open);
    drop_step(c);
    c->step.is_finished = false;
    if (!standing_glance(t, db, &is_unchanged, e))
        return false;
    if (is_unchanged && !(c->census.is_owed && census_is_due(&c->census, t->config))) {
        c->has_polled = true;
        return begin_rise(c, found, e);
    }
    *found = CAPTURE_STEP;
    if (!standing_begin(t, db, &news, e))
        return false;
    c->step.is_open = true;
    if (!try_query(c, db, e))
        return false;
    c->step.is_start = news != STANDING_GOES_ON;
    if (t->position.phase == PHASE_SNAPSHOT)
        return c->step.is_start || begin_range(c, e);
    if (news == STANDING_STARTS_NOW)
        c->step.what = READ_XMINS;
    else if (news == STANDING_GOES_ON)
        begin_poll(c);
    return standing_add_ready(t, e);
}

/* ---- rows ---- */

/* Starts the next COPY of the step, or finds that there is none. */
static bool start_copy(struct capture *c, struct db *db, struct err *e)
{
    const struct table_facts *t = &c->standing.survey.table;
    struct step *s = &c->step;
    struct query q;
    struct buf sql;
    bool ok;

    describe(c, &q);
    buf_init(&sql, BUF_SQL_MAX);
    if (s->what == READ_LEAF) {
        while (s->next_leaf < t->n_leaves &&
               position_leaf(&c->standing.position, t->leaves[s->next_leaf].oid) != NULL)
            s->next_leaf++;
        if (s->next_leaf == t->n_leaves)
            s->what = READ_POLL;
    }
    switch (s->what) {
    case READ_NOTHING:
        return true;
    case READ_RANGE: {
        const struct leaf *at = position_leaf(&c->standing.position, s->leaf);

        query_range(&sql, &q, table_leaf(t, s->leaf), at->next, s->end);
        break;
    }
    case READ_LEAF:
        query_leaf(&sql, &q, &t->leaves[s->next_leaf++]);
        break;
    case READ_POLL:
        query_poll(&sql, &q, &c->standing.position);
        break;
    case READ_XMINS:
        query_xmins(&sql, &q, &c->standing.position);
        break;
    case READ_TALLY:
        query_tally(&sql, &q);
        break;
    case READ_KEYS:
        if ((s->is_over = c->census.asked == NULL))
            return true;
        query_keys(&sql, &q, c->census.asked);
        break;
    }
    ok = buf_ok(&sql) ? db_copy(db, sql.data, e) : err_memory(e);
    buf_fini(&sql);
    s->in_copy = ok;
    return ok;
}

static bool start_batch(struct capture *c, struct err *e)
{
    struct step *s = &c->step;

    if (s->batch != NULL)
        return true;
    s->batch = batch_new(BATCH_ROWS, c->standing.number);
    if (s->batch == NULL)
        return err_memory(e);
    if (c->standing.survey.shape != NULL)
        s->batch->shape = shape_ref(c->standing.survey.shape);
    s->batch->begins = !s->has_out;
    s->batch->is_snapshot = s->what == READ_RANGE;
    s->batch->leaf = s->leaf;
    s->batch->end = s->end;
    s->batch->is_ordered = !s->batch->is_snapshot && !s->has_new_leaves;
    s->batch->reads = c->standing.position.reads;
    return true;
}

/* Was this row of the range delivered before the program was stopped in the middle of it? */
static bool was_done(struct capture *c, const char *fields, const char *end)
{
    struct step *s = &c->step;
    uint64_t hash;
    size_t len;

    buf_clear(&s->key);
    if (c->standing.config->deletes && !census_read_hash(&fields, end, &hash))
        return false;
    len = (size_t)(end - fields);
    return shape_put_key(c->standing.survey.shape, fields, len, &s->key) &&
           keyset_take(&s->done, s->key.data, s->key.len);
}

/* Takes one row of COPY: leaves it out, notes it, or adds it to the batch. */
static bool take_row(struct capture *c, const char *text, size_t len, struct err *e)
{
    struct step *s = &c->step;
    const struct horizon *h = &c->standing.position.horizon;
    const char *p = text, *end = text + len;
    struct row row = { .op = OP_UPSERT };
    uint32_t xmin;
    bool is_new;

    if (len > UINT32_MAX || !census_read_xmin(&p, end, s->what == READ_XMINS, &xmin))
        return err_set(e, ERR_INTERNAL, "cannot read a row of the server's COPY");
    row.xid = horizon_widen(xmin, c->standing.survey.snapshot.xmax);
    is_new = horizon_is_new(h, row.xid);
    switch (s->what) {
    case READ_XMINS:
        return row.xid < h->floor || xidset_add(&s->baseline, row.xid) ? true : err_memory(e);
    case READ_RANGE:
        if (row.xid >= h->floor)
            return true; /* left to the first poll */
        if (s->done.n > 0 && was_done(c, p, end))
            return true;
        row.op = OP_READ;
        c->standing.position.rows++;
        break;
    case READ_LEAF:
        row.op = is_new ? OP_UPSERT : OP_READ;
        break;
    case READ_POLL:
    case READ_NOTHING:
    case READ_TALLY:
    case READ_KEYS:
        if (!is_new)
            return true;
        break;
    }
    if (is_new && s->what != READ_RANGE && !xidset_add(&s->delivered, row.xid))
        return err_memory(e);
    if (!start_batch(c, e) ||
        (c->standing.config->deletes && !census_take_hash(&c->census, s->batch, &p, end, e)))
        return false;
    row.len = (uint32_t)(end - p);
    if (shape_is_soft_deleted(c->standing.survey.shape, p, row.len))
        row.op = OP_DELETE;
    return batch_add(s->batch, &row, p) || err_memory(e);
}

/* A COPY of rows is over. */
static void end_copy(struct capture *c)
{
    struct step *s = &c->step;

    s->in_copy = false;
    if (s->what == READ_POLL && c->census.is_wanted && !c->census.is_skipped)
        s->what = READ_TALLY;
    else if (s->what != READ_LEAF)
        s->is_over = true;
}

/* Reads what the census wants; *batch is what the host is to get of it. */
static bool read_census(struct capture *c, struct db *db, struct batch **batch, struct err *e)
{
    const struct standing *t = &c->standing;
    struct step *s = &c->step;
    bool is_over;

    if (s->what == READ_TALLY) {
        s->in_copy = false;
        s->what = READ_KEYS; /* of which the host is to say */
        return census_read_tally(&c->census, db, t->number, t->survey.shape, batch, e);
    }
    if (!census_read_keys(&c->census, db, t->number, &t->position.horizon,
                          t->survey.snapshot.xmax, batch, &is_over, e))
        return false;
    s->in_copy = !is_over;
    s->is_over = is_over;
    return true;
}

/* Fills the batch in hand until it is full or the COPY is over. */
static bool fill_batch(struct capture *c, struct db *db, struct err *e)
{
    while (c->step.batch == NULL || !batch_is_full(c->step.batch)) {
        const char *text;
        size_t len;

        switch (db_copy_next(db, &text, &len, e)) {
        case DB_COPY_ROW:
            if (!take_row(c, text, len, e))
                return false;
            break;
        case DB_COPY_END:
            end_copy(c);
            return true;
        case DB_COPY_FAILED:
            return false;
        }
    }
    return true;
}

/* Closes the transaction and turns the batch in hand into the last one. */
static bool finish_step(struct capture *c, struct db *db, struct err *e)
{
    struct step *s = &c->step;
    struct position *p = &c->standing.position;
    bool was_snapshot = p->phase == PHASE_SNAPSHOT;
    struct batch *b;

    if (s->is_open && !db_run(db, "COMMIT", NULL, 0, e))
        return false;
    s->is_open = false;
    s->is_finished = true;
    if (!start_batch(c, e))
        return false;
    b = s->batch;
    if (was_snapshot)
        finish_range(c);
    else if (s->what != READ_NOTHING && !finish_poll(c, e))
        return false;
    census_complete(&c->census);
    b->is_lazy = !was_snapshot && !s->is_start && b->n_rows == 0 && !s->has_out;
    b->ends = true;
    if ((b->position = calloc(1, sizeof *b->position)) == NULL ||
        !position_copy(b->position, p)) {
        free(b->position);
        b->position = NULL;
        return err_memory(e);
    }
    return !was_snapshot || p->phase != PHASE_POLL || standing_add_ready(&c->standing, e);
}

static bool note_out(struct capture *c, const struct batch *b, struct err *e)
{
    struct step *s = &c->step;

    if (b->n_rows == 0)
        return true;
    s->has_out = true;
    s->out = b->rows[b->n_rows - 1];
    if (!b->is_ordered)
        return true;
    buf_clear(&s->out_key);
    return batch_row_key(b, &s->out, &s->out_key) || err_memory(e);
}

bool capture_next(struct capture *c, struct db *db, struct batch **batch, struct err *e)
{
    struct step *s = &c->step;

    *batch = standing_take_word(&c->standing);
    if (*batch != NULL)
        return true;
    if (s->is_finished)
        return true;
    if (s->what == READ_NOTHING)
        s->is_over = true;
    while (!s->is_over && (s->batch == NULL || !batch_is_full(s->batch))) {
        if (!s->in_copy && !start_copy(c, db, e))
            return false;
        if (s->in_copy && (s->what == READ_TALLY || s->what == READ_KEYS))
            return read_census(c, db, batch, e);
        if (s->in_copy && !fill_batch(c, db, e))
            return false;
    }
    if (s->is_over && !finish_step(c, db, e))
        return false;
    if (!note_out(c, s->batch, e))
        return false;
    *batch = s->batch;
    s->batch = NULL;
    return true;
}

void capture_abort(struct capture *c, struct db *db)
{
    struct step *s = &c->step;

    if (db != NULL)
        db_rollback(db);
    if (s->has_out && !capture_is_held(c) && buf_ok(&s->out_key)) {
        if (!position_cut(&c->standing.position, &s->delivered, s->out.xid, s->out_key.data,
                          s->out_key.len)) {
            /* no memory: the rows come again, which is allowed where something broke */
        }
    }
    drop_step(c);
}

void capture_stop_waiting(struct capture *c)
{
    c->standing.is_impatient = true;
}

bool capture_check(struct capture *c, struct db *db, struct buf *report, struct err *e)
{
    bool ok = survey_begin(&c->standing.survey, db, c->standing.config, false, e) &&
              try_query(c, db, e);

    db_rollback(db);
    if (!ok)
        return false;
    survey_report(&c->standing.survey, c->standing.config, db_version(db), report);
    return buf_ok(report) || err_memory(e);
}
