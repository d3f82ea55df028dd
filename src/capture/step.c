/* step.c -- one poll, or one range of the snapshot, of one source.
 *
 * How a snapshot can stop at any row: a position says which blocks are done, and, where a range of
 * blocks was left half done, the keys of the rows that were delivered of it. (To ask for each
 * row's ctid instead costs the server a tenth more, for every row, whether we are stopped or not.)
 *
 * SPDX-License-Identifier: MIT */
#include "capture/step.h"

#include "capture/method_increment.h"
#include "capture/badtext.h"
#include "capture/key_census.h"
#include "capture/key_multiset.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* What is under way between capture_begin and the end of capture_next. */
struct step {
    struct reads reads;
    bool is_open;            /* a transaction is */
    bool in_copy;
    bool is_over;            /* all was read */
    bool is_finished;        /* the last batch was made */
    bool is_start;           /* reads no row: only gives the host a position to start from */
    struct message *message;     /* being filled */
    struct polled polled;
    struct page page;
    bool has_new_leaves;
    size_t next_leaf;        /* the leaves before it in the facts are known, or were read */
    struct key_multiset done;      /* rows of a range that were delivered before */
    struct buf key;          /* scratch */
    /* the last row handed out */
    bool has_out;
    struct chunk_row out;
    struct buf out_key;
};

struct capture {
    struct source source;
    struct step step;
    struct key_census census;
    bool is_resolved, has_tried, has_polled;
};

static void drop_step(struct capture *c)
{
    struct step *s = &c->step;

    message_free(s->message);
    polled_fini(&s->polled);
    pages_rows_fini(&s->page.fresh);
    buf_fini(&s->page.last_key);
    key_multiset_fini(&s->done);
    buf_fini(&s->key);
    buf_fini(&s->out_key);
    key_census_drop(&c->census);
    *s = (struct step){ .is_finished = true };
    buf_init(&s->key, SIZE_MAX / 2);
    buf_init(&s->out_key, SIZE_MAX / 2);
    buf_init(&s->page.last_key, SIZE_MAX / 2);
}

struct capture *capture_new(const struct config *config, size_t number)
{
    struct capture *c = calloc(1, sizeof *c);

    if (c == NULL)
        return NULL;
    fault_init(&c->source, config, number);
    c->census.is_owed = config->deletes;
    drop_step(c);
    return c;
}

void capture_free(struct capture *c)
{
    if (c == NULL)
        return;
    drop_step(c);
    fault_fini(&c->source);
    free(c);
}

bool capture_resolve(struct capture *c, struct conn *conn, struct err *e)
{
    c->is_resolved = begin_resolve(&c->source.facts, conn, c->source.config, e);
    return c->is_resolved;
}

bool capture_is_resolved(const struct capture *c)
{
    return c->is_resolved;
}

const char *capture_schema(const struct capture *c)
{
    return c->source.facts.table.schema;
}

const char *capture_table(const struct capture *c)
{
    return c->source.facts.table.name;
}

bool capture_restore(struct capture *c, const struct position *kept)
{
    return kept == NULL || fault_restore(&c->source, kept);
}

void capture_name_bad_column(struct capture *c, struct conn *conn, struct err *e)
{
    const struct sql_query q = reads_query(&c->source);

    badtext_name_column(conn, &q, c->source.config->rls, e);
}

bool capture_is_in_snapshot(const struct capture *c)
{
    return c->source.position.phase != POSITION_POLL;
}

bool capture_has_polled(const struct capture *c)
{
    return c->has_polled;
}

/* A recheck behind a window that was cut: a cut of its own would be of another kind. */
static bool mixes_resume_points(const struct capture *c)
{
    return c->step.reads.is_recheck && position_resumes_window(&c->source.position);
}

bool capture_is_held(const struct capture *c)
{
    const struct reads *r = &c->step.reads;

    return r->what == READ_RANGE || r->what == READ_PAGE || c->step.has_new_leaves ||
           r->is_switch || mixes_resume_points(c) || c->census.is_wanted;
}

bool capture_owes_census(const struct capture *c)
{
    return c->census.is_owed;
}

bool capture_answer(struct capture *c, bool is_answered, const unsigned char *asked, struct err *e)
{
    return !is_answered || key_census_answer(&c->census, asked) || err_memory(e);
}

/* ---- ranges of the snapshot ---- */

static bool begin_range(struct capture *c, struct err *e)
{
    const struct position_done *done = &c->source.position.done;
    struct step *s = &c->step;

    if (!fault_check_leaves(&c->source, e))
        return false;
    return !advance_begin_range(&c->source.position, &s->reads) || done->keys == NULL ||
           done->leaf != s->reads.leaf || key_multiset_init(&s->done, done->keys) || err_memory(e);
}

/* Where rows have no xids a round of pages is the snapshot, and each poll. */
static bool begin_page(struct capture *c, struct conn *conn, struct err *e)
{
    c->has_polled = false;
    c->step.reads.what = READ_PAGE;
    return advance_begin_page(&c->step.polled, &c->source, conn, e);
}

/* ---- polls ---- */

/* The COPY that a poll ends with. */
static int what_polls(const struct capture *c)
{
    return reads_values(&c->source) && !c->step.reads.is_recheck ? READ_WINDOW : READ_POLL;
}

static void begin_poll(struct capture *c)
{
    const struct relation *t = &c->source.facts.table;

    for (size_t i = 0; i < t->n_leaves; i++)
        if (position_leaf(&c->source.position, t->leaves[i].oid) == NULL)
            c->step.has_new_leaves = true;
    key_census_begin(&c->census, c->source.config, &c->source.position, t);
    c->step.reads.is_recheck = reads_values(&c->source) &&
                               (c->step.has_new_leaves || advance_wants_recheck(&c->source));
    c->step.reads.is_switch = reads_by_trigger(&c->source) && !reads_stamps(&c->source) &&
                              !c->step.reads.is_recheck;
    c->step.reads.what = c->step.has_new_leaves ? READ_LEAF : what_polls(c);
}

static bool begin_rise(struct capture *c, enum capture_found *found, struct err *e)
{
    bool has_risen;

    if (!advance_idle(&c->source, &has_risen, e))
        return false;
    *found = has_risen ? CAPTURE_STEP : CAPTURE_NOTHING;
    return true;
}

/* Whether the source's columns, key and condition work at all is to be known at its start. */
static bool try_query(struct capture *c, struct conn *conn, struct err *e)
{
    struct result *rows = NULL;
    struct buf sql;
    bool ok;

    if (c->has_tried)
        return true;
    buf_init(&sql, BUF_SQL_MAX);
    reads_put_try(&c->source, &sql);
    ok = buf_ok(&sql) ? conn_run(conn, sql.data, &rows, 1, e) : err_memory(e);
    result_free(rows);
    buf_fini(&sql);
    c->has_tried = ok;
    return ok;
}

bool capture_begin(struct capture *c, struct conn *conn, enum capture_found *found, struct err *e)
{
    struct source *t = &c->source;
    enum fault_news news;
    bool is_unchanged;

    assert(!c->step.is_open);
    drop_step(c);
    c->step.is_finished = false;
    if (!fault_glance(t, conn, &is_unchanged, e))
        return false;
    is_unchanged = is_unchanged && !t->position.pages.is_used; /* who knows, behind a view? */
    if (is_unchanged && !advance_wants_recheck(t) &&
        !(c->census.is_owed && key_census_is_due(&c->census, t->config))) {
        c->has_polled = true;
        return begin_rise(c, found, e);
    }
    *found = CAPTURE_STEP;
    if (!fault_begin(t, conn, &news, e))
        return false;
    c->step.is_open = true;
    if (!try_query(c, conn, e))
        return false;
    c->step.is_start = news != FAULT_GOES_ON;
    if (t->position.pages.is_used)
        return c->step.is_start ||
               ((t->position.phase != POSITION_POLL || t->position.pages.is_silent ||
                 fault_add_ready(t, e)) && begin_page(c, conn, e));
    if (t->position.phase == POSITION_SNAPSHOT)
        return c->step.is_start || begin_range(c, e);
    if (news == FAULT_STARTS_NOW)
        c->step.reads.what = READ_XMINS;
    else if (news == FAULT_GOES_ON)
        begin_poll(c);
    if (news == FAULT_GOES_ON && reads_values(t) &&
        !advance_read_top(&c->step.polled, t, conn, e))
        return false;
    return fault_add_ready(t, e);
}

/* ---- rows ---- */

/* Starts the next COPY of the step, or finds that there is none. */
static bool start_copy(struct capture *c, struct conn *conn, struct err *e)
{
    const struct relation *t = &c->source.facts.table;
    const struct relation_leaf *leaf = NULL;
    struct step *s = &c->step;
    const char *setting;
    struct buf sql;
    bool ok;

    if (s->reads.what == READ_LEAF) {
        while (s->next_leaf < t->n_leaves &&
               position_leaf(&c->source.position, t->leaves[s->next_leaf].oid) != NULL)
            s->next_leaf++;
        if (s->next_leaf == t->n_leaves)
            s->reads.what = what_polls(c);
    }
    if (s->reads.what == READ_NOTHING)
        return true;
    if (s->reads.what == READ_LEAF)
        leaf = &t->leaves[s->next_leaf++];
    if (s->reads.what == READ_KEYS && (s->is_over = c->census.asked == NULL))
        return true;
    setting = reads_setting(&s->reads, &c->source, s->has_new_leaves);
    if (setting != NULL && !conn_run(conn, setting, NULL, 0, e))
        return false;
    buf_init(&sql, BUF_SQL_MAX);
    reads_put(&s->reads, &c->source, leaf, c->census.asked, &sql);
    ok = buf_ok(&sql) ? conn_copy(conn, sql.data, e) : err_memory(e);
    buf_fini(&sql);
    s->in_copy = ok;
    return ok;
}

static bool start_batch(struct capture *c, struct err *e)
{
    struct step *s = &c->step;
    struct chunk *chunk;

    if (s->message != NULL)
        return true;
    s->message = message_new(MESSAGE_ROWS, c->source.number);
    if (s->message == NULL)
        return err_memory(e);
    chunk = &s->message->chunk;
    if (c->source.facts.rowtype != NULL)
        chunk->rowtype = rowtype_ref(c->source.facts.rowtype);
    chunk->begins = !s->has_out;
    chunk->is_snapshot = s->reads.what == READ_RANGE;
    chunk->leaf = s->reads.leaf;
    chunk->end = s->reads.end;
    chunk->is_ordered = !chunk->is_snapshot && s->reads.what != READ_PAGE &&
                        !s->has_new_leaves && !s->reads.is_switch && !mixes_resume_points(c);
    chunk->is_recheck = s->reads.is_recheck;
    chunk->reads = c->source.position.reads;
    return true;
}

/* Was this row of the range delivered before the program was stopped in the middle of it? */
static bool was_done(struct capture *c, const char *fields, const char *end)
{
    struct step *s = &c->step;
    uint64_t hash;
    size_t len;

    buf_clear(&s->key);
    if (c->source.config->deletes && !key_census_read_hash(&fields, end, &hash))
        return false;
    len = (size_t)(end - fields);
    return rowtype_put_key(c->source.facts.rowtype, fields, len, &s->key) &&
           key_multiset_take(&s->done, s->key.data, s->key.len);
}

/* Takes one row of COPY: leaves it out, notes it, or adds it to the batch. */
static bool take_row(struct capture *c, const char *text, size_t len, struct err *e)
{
    struct step *s = &c->step;
    const struct horizon *h = &c->source.position.horizon;
    const char *p = text, *end = text + len;
    struct chunk_row row = { .op = OP_UPSERT };
    struct reads_row read;
    struct chunk *chunk;

    if (len > UINT32_MAX || !reads_parse(&s->reads, &c->source, &p, end, &read))
        return err_set(e, ERR_INTERNAL, "cannot read a row of the server's COPY");
    if (read.is_doubtful) {
        s->polled.has_left = true;
        return key_census_leave(&c->census, p, end, e);
    }
    if (s->reads.is_switch && read.stamp > 0 &&
        !xidset_add(&s->polled.baseline, read.stamp))
        return err_memory(e);
    row.xid = read.xid;
    row.is_key_only = read.is_gone;
    switch (s->reads.what) {
    case READ_XMINS:
        return read.judged < h->floor || xidset_add(&s->polled.baseline, read.judged) ||
               err_memory(e);
    case READ_RANGE:
        if (read.judged >= h->floor)
            return true; /* left to the first poll */
        if (s->done.n > 0 && was_done(c, p, end))
            return true;
        row.op = OP_READ;
        c->source.position.rows++;
        break;
    case READ_LEAF:
        row.op = read.is_new ? OP_UPSERT : OP_READ;
        break;
    case READ_PAGE:
        if (!advance_page_row(&s->page, &c->source, read.value, p, (size_t)(end - p), &row.xid,
                              &read.is_new, e))
            return false;
        if (!read.is_new || c->source.position.pages.is_silent)
            return true;
        row.op = capture_is_in_snapshot(c) ? OP_READ : OP_UPSERT;
        break;
    case READ_POLL:
    case READ_WINDOW:
    case READ_NOTHING:
    case READ_TALLY:
    case READ_KEYS:
        if (!read.is_new)
            return true;
        break;
    }
    if (read.is_new && s->reads.what != READ_RANGE && s->reads.what != READ_PAGE &&
        !polled_add(&s->polled, &c->source, &s->reads, &read))
        return err_memory(e);
    if (read.is_superseded)
        return true;
    if (!start_batch(c, e))
        return false;
    chunk = &s->message->chunk;
    if (c->source.config->deletes && !key_census_take_hash(&c->census, chunk, &p, end, e))
        return false;
    row.len = (uint32_t)(end - p);
    if (row.is_key_only || rowtype_is_soft_deleted(c->source.facts.rowtype, p, row.len))
        row.op = OP_DELETE;
    return chunk_add(chunk, &row, p) || err_memory(e);
}

/* A COPY of rows is over. */
static void end_copy(struct capture *c)
{
    struct step *s = &c->step;

    s->in_copy = false;
    if (s->reads.what == READ_POLL && c->census.is_wanted && !c->census.is_skipped)
        s->reads.what = READ_TALLY;
    else if (s->reads.what != READ_LEAF)
        s->is_over = true;
}

/* Reads what the census wants; *batch is what the host is to get of it. */
static bool read_census(struct capture *c, struct conn *conn, struct message **message,
                        struct err *e)
{
    const struct source *t = &c->source;
    struct step *s = &c->step;
    bool is_over;

    if (s->reads.what == READ_TALLY) {
        s->in_copy = false;
        s->reads.what = READ_KEYS; /* of which the host is to say */
        return key_census_read_tally(&c->census, conn, t->number, t->facts.rowtype, message, e);
    }
    if (!key_census_read_keys(&c->census, conn, t->number, &t->position.horizon, &t->facts, message,
                              &is_over, e))
        return false;
    s->in_copy = !is_over;
    s->is_over = is_over;
    return true;
}

/* Fills the batch in hand until it is full or the COPY is over. */
static bool fill_batch(struct capture *c, struct conn *conn, struct err *e)
{
    while (c->step.message == NULL || !chunk_is_full(&c->step.message->chunk)) {
        const char *text;
        size_t len;

        switch (conn_copy_next(conn, &text, &len, e)) {
        case CONN_COPY_ROW:
            if (!take_row(c, text, len, e))
                return false;
            break;
        case CONN_COPY_END:
            end_copy(c);
            return true;
        case CONN_COPY_FAILED:
            return false;
        }
    }
    return true;
}

/* Was this the poll that leaves a column behind? Then the one that the source asks for is due. */
static bool leaves_column(const struct capture *c)
{
    return c->step.reads.is_recheck && !reads_same_column(&c->source);
}

/* All rows of the step were read. */
static bool move_position(struct capture *c, struct err *e)
{
    struct source *t = &c->source;
    const struct reads *r = &c->step.reads;

    if (r->what == READ_PAGE)
        return advance_page(t, &c->step.page, &c->has_polled, e);
    if (t->position.pages.is_used)
        return true;
    if (t->position.phase == POSITION_SNAPSHOT) {
        advance_range(&t->position, r);
        return true;
    }
    if (r->what == READ_NOTHING)
        return true;
    if (!advance_poll(t, r, &c->step.polled, e))
        return false;
    c->has_polled = r->what != READ_XMINS && !leaves_column(c);
    return true;
}

/* Closes the transaction and turns the batch in hand into the last one. */
static bool finish_step(struct capture *c, struct conn *conn, struct err *e)
{
    struct step *s = &c->step;
    struct position *p = &c->source.position;
    bool was_snapshot = p->phase == POSITION_SNAPSHOT;
    struct chunk *chunk;

    if (s->is_open && !conn_run(conn, "COMMIT", NULL, 0, e))
        return false;
    s->is_open = false;
    s->is_finished = true;
    if (!start_batch(c, e))
        return false;
    chunk = &s->message->chunk;
    if (!move_position(c, e))
        return false;
    key_census_complete(&c->census);
    chunk->is_lazy = !was_snapshot && !s->is_start && chunk->n_rows == 0 && !s->has_out;
    chunk->ends = true;
    if (!chunk_set_position(chunk, p))
        return err_memory(e);
    return p->phase != POSITION_POLL || !(was_snapshot || c->has_polled) ||
           fault_add_ready(&c->source, e);
}

static bool note_out(struct capture *c, const struct chunk *chunk, struct err *e)
{
    struct step *s = &c->step;

    if (chunk->n_rows == 0)
        return true;
    s->has_out = true;
    s->out = chunk->rows[chunk->n_rows - 1];
    if (!chunk->is_ordered)
        return true;
    buf_clear(&s->out_key);
    return chunk_row_key(chunk, &s->out, &s->out_key) || err_memory(e);
}

bool capture_next(struct capture *c, struct conn *conn, struct message **message, struct err *e)
{
    struct step *s = &c->step;

    *message = fault_take_word(&c->source);
    if (*message != NULL)
        return true;
    if (s->is_finished)
        return true;
    if (s->reads.what == READ_NOTHING)
        s->is_over = true;
    while (!s->is_over && (s->message == NULL || !chunk_is_full(&s->message->chunk))) {
        if (!s->in_copy && !start_copy(c, conn, e))
            return false;
        if (s->in_copy && (s->reads.what == READ_TALLY || s->reads.what == READ_KEYS))
            return read_census(c, conn, message, e);
        if (s->in_copy && !fill_batch(c, conn, e))
            return false;
    }
    if (s->is_over && !finish_step(c, conn, e))
        return false;
    if (!note_out(c, &s->message->chunk, e))
        return false;
    *message = s->message;
    s->message = NULL;
    return true;
}

void capture_abort(struct capture *c, struct conn *conn)
{
    struct step *s = &c->step;

    if (conn != NULL)
        conn_rollback(conn);
    if (s->has_out && !capture_is_held(c) && buf_ok(&s->out_key)) {
        const struct position_last last = {
            .xid = s->out.xid,
            .is_tombstone = s->out.is_key_only,
            .is_recheck = s->reads.is_recheck,
            .key = s->out_key.data,
            .len = s->out_key.len,
        };

        if (!position_end_early(&c->source.position, &s->polled.delivered, &last)) {
            /* no memory: the rows come again, which is allowed where something broke */
        }
    }
    drop_step(c);
}

uint64_t capture_announced_as(const struct capture *c)
{
    return c->source.facts.marks.notifies ? c->source.facts.marks.number : 0;
}

void capture_stop_waiting(struct capture *c)
{
    c->source.is_impatient = true;
}

bool capture_check(struct capture *c, struct conn *conn, struct buf *report, struct err *e)
{
    struct message *word;
    bool ok = fault_look(&c->source, conn, false, e) && try_query(c, conn, e);

    conn_rollback(conn);
    if (!ok)
        return false;
    begin_report(&c->source.facts, c->source.config, conn_version(conn), report);
    while ((word = fault_take_word(&c->source)) != NULL) {
        if (word->kind == MESSAGE_NOTICE)
            buf_printf(report, "; %s", word->notice.err.msg);
        message_free(word);
    }
    return buf_ok(report) || err_memory(e);
}
