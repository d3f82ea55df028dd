/* reading.c -- the COPYs of one step, and their rows as chunks.
 * SPDX-License-Identifier: MIT */
#include "capture/reading.h"

#include "base/clock.h"
#include "base/text.h"
#include "capture/second_reader.h"
#include "capture/sql_census.h"
#include "pg/copytext.h"

#include <string.h>

#define LEAST_DIVIDED 128 /* blocks: a shorter range is read by one connection */

void reading_init(struct reading *r, struct source *s, struct key_census *census)
{
    *r = (struct reading){ .source = s, .census = census };
}

void reading_drop_second(struct reading *r)
{
    second_reader_free(r->source->second);
    r->source->second = NULL;
}

void reading_fini(struct reading *r)
{
    if (r->half == READING_LOWER)
        reading_drop_second(r); /* what it still reads would be of a step that is over */
    message_free(r->message);
    method_step_fini(&r->method);
    snapshot_range_fini(&r->range);
    r->message = NULL;
}

bool reading_is_ordered(const struct reading *r)
{
    return r->part != READING_RANGE && r->part != READING_REREAD && !r->method.has_new_leaves &&
           !r->method.is_held;
}

/* The blocks of the range in hand, or those of its half. */
static struct method_extent extent_of(const struct reading *r)
{
    return (struct method_extent){
        .leaf = relation_leaf(&r->source->facts.table, r->range.leaf),
        .block = r->half == READING_REST ? r->middle : r->range.block,
        .end = r->half == READING_LOWER ? r->middle : r->range.end,
    };
}

bool reading_begin_range(struct reading *r, struct conn *conn, struct err *e)
{
    struct source *s = r->source;

    if (!snapshot_begin(s, &r->range, e))
        return false;
    if (s->config->readers > 1 && s->second == NULL)
        s->second = second_reader_new(s->config, conn_stop_fd(conn));
    r->part = r->range.end > 0 ? READING_RANGE : READING_NONE;
    return true;
}

bool reading_begin_reread(struct reading *r, struct conn *conn, struct err *e)
{
    const struct method *m = r->method.method;
    struct method_extent extent;
    bool is_ready = true;

    if (!snapshot_begin_again(r->source, &r->range, e))
        return false;
    extent = extent_of(r);
    if (r->range.end > 0 && m->begin_reread != NULL &&
        !m->begin_reread(r->source, &extent, conn, &is_ready, e))
        return false;
    if (!is_ready)
        snapshot_range_fini(&r->range);
    r->part = r->range.end > 0 ? READING_REREAD : READING_NONE;
    return true;
}

bool reading_begin_poll(struct reading *r, struct conn *conn, struct err *e)
{
    struct source *s = r->source;

    reading_drop_second(r);
    key_census_begin(r->census, s, false);
    r->is_whole = source_reads_whole(s);
    if (!method_begin(s, &r->method, conn, e))
        return false;
    r->census->learns_all = r->method.learns_all;
    r->part = r->method.is_idle          ? READING_NONE
              : r->method.has_new_leaves ? READING_LEAVES
              : r->method.is_scan && key_census_goes_first(r->census) ? READING_COUNTS
                                         : READING_POLL;
    return true;
}

/* ---- rows ---- */

/* A statement to be run before the COPY, or NULL. A COPY that reads all must not go by an index. */
static const char *setting_of(const struct reading *r)
{
    if (!r->source->declared->by_index)
        return NULL;
    if (r->copy->reads_all)
        return "SET LOCAL enable_seqscan = on";
    return r->method.has_new_leaves ? "SET LOCAL enable_seqscan = off" : NULL;
}

/* The next leaf that is new, or NULL. */
static const struct relation_leaf *next_leaf(struct reading *r)
{
    const struct relation *t = &r->source->facts.table;

    while (r->next_leaf < t->n_leaves) {
        const struct relation_leaf *leaf = &t->leaves[r->next_leaf++];

        if (method_is_new_leaf(r->method.method, r->source, leaf->oid))
            return leaf;
    }
    return NULL;
}

/* Chooses the COPY of the part in hand; NULL: there is nothing left to read. *extent: what it
 * reads, if not the whole table. */
static void choose_copy(struct reading *r, struct method_extent *extent)
{
    const struct method *m = r->method.method;

    *extent = (struct method_extent){ .leaf = NULL };
    if (r->part == READING_LEAVES && (extent->leaf = next_leaf(r)) == NULL)
        r->part = READING_POLL;
    if (r->part == READING_RANGE || r->part == READING_REREAD)
        *extent = extent_of(r);
    r->copy = r->part == READING_RANGE    ? &m->range
              : r->part == READING_REREAD ? &m->reread
              : r->part == READING_XIDS   ? &m->xids
              : r->part == READING_LEAVES ? &m->leaf
                                          : r->method.copy;
}

/* Sends <sql>, which it frees. */
static bool send_copy(struct reading *r, struct conn *conn, struct buf *sql, struct err *e)
{
    bool ok;

    r->copy_ns = clock_mono_ns(); /* the answer may begin when the server's buffer is full */
    ok = buf_ok(sql) ? conn_copy(conn, sql->data, e) : err_memory(e);
    buf_fini(sql);
    r->in_copy = ok;
    return ok;
}

/* The COPY is over. Those of first reads are no load that comes again. */
static void end_copy(struct reading *r)
{
    int64_t us = (clock_mono_ns() - r->copy_ns) / 1000;

    r->in_copy = false;
    if (r->part == READING_POLL)
        r->times.scan_us += us;
    else if (r->part == READING_TALLY || r->part == READING_KEYS)
        r->times.census_us += us;
    else if (r->part == READING_COUNTS) { /* a scan that did for the poll as well */
        r->times.scan_us += us / 4;
        r->times.census_us += us - us / 4;
    }
}

/* Has the upper half of the range read by another connection, if there is one. The range is of the
 * table's leaf <extent>. */
static bool divide(struct reading *r, struct method_extent *extent, struct conn *conn,
                   struct err *e)
{
    struct method_extent upper = *extent;
    const struct source *s = r->source;
    bool ok, is_begun = false;
    struct buf sql;

    if (r->part != READING_RANGE || s->second == NULL || r->half != READING_BOTH ||
        extent->end - extent->block < LEAST_DIVIDED)
        return true;
    r->middle = upper.block = extent->block + (extent->end - extent->block) / 2;
    buf_init(&sql, BUF_SQL_MAX);
    r->copy->put(s, &upper, &sql);
    ok = buf_ok(&sql) ? second_reader_begin(s->second, &s->facts.table, sql.data, conn, &is_begun,
                                            e)
                      : err_memory(e);
    buf_fini(&sql);
    if (ok && is_begun) {
        r->half = READING_LOWER;
        extent->end = r->middle;
    }
    return ok;
}

static bool start_copy(struct reading *r, struct conn *conn, struct err *e)
{
    struct method_extent extent;
    const char *setting;
    struct buf sql;

    choose_copy(r, &extent);
    r->is_over = r->copy == NULL;
    if (r->is_over)
        return true;
    if (!divide(r, &extent, conn, e))
        return false;
    setting = setting_of(r);
    if (setting != NULL && !conn_run(conn, setting, NULL, NULL, 0, e))
        return false;
    buf_init(&sql, BUF_SQL_MAX);
    r->copy->put(r->source, &extent, &sql);
    return send_copy(r, conn, &sql, e);
}

bool reading_start_chunk(struct reading *r, struct err *e)
{
    const struct source *s = r->source;
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
    chunk->is_reread = r->part == READING_REREAD;
    chunk->is_snapshot = r->part == READING_RANGE || chunk->is_reread;
    chunk->leaf = r->range.leaf;
    chunk->end = r->range.end;
    chunk->is_ordered = reading_is_ordered(r);
    chunk->is_recheck = r->method.is_recheck;
    chunk->reads = s->position.reads;
    chunk->has_hashes = source_has_hashes(s);
    /* like the one before, and a little more: rows differ, and to move them takes time */
    return chunk_reserve(chunk, r->full_rows + r->full_rows / 16,
                         r->full_bytes + r->full_bytes / 16) || err_memory(e);
}

/* True if this row of the range was delivered before the program was stopped in the middle of it.
 */
static bool was_delivered(struct reading *r, const struct method_row *row)
{
    struct snapshot_range *range = &r->range;
    const char *fields = row->p;
    uint64_t hash;

    if (range->done.n == 0 || (source_has_hashes(r->source) &&
                               !key_census_read_hash(&fields, row->end, &hash)))
        return false;
    return snapshot_has_delivered(range, r->source->facts.rowtype, &row->place, fields,
                                  (size_t)(row->end - fields));
}

/* True if this row of a range was told as a delete. */
static bool is_soft_deleted(const struct reading *r, const struct method_row *row)
{
    const char *fields = row->p;
    uint64_t hash;

    return (!source_has_hashes(r->source) || key_census_read_hash(&fields, row->end, &hash)) &&
           rowtype_is_soft_deleted(r->source->facts.rowtype, fields, (size_t)(row->end - fields));
}

/* Counts the rows of an xid with one fingerprint. True if this row of a poll is one of those that
 * were delivered before, see row_order.h. */
static bool was_counted(struct reading *r, struct method_row *row)
{
    const struct position *p = &r->source->position;
    const struct method_row *last = &r->last;
    bool is_same = last->nth > 0 && last->xid == row->xid &&
                   last->is_tombstone == row->is_tombstone &&
                   last->fingerprint == row->fingerprint;

    row->nth = is_same ? last->nth + 1 : 1;
    r->last = *row;
    for (size_t i = 0; i < p->n_resume_points; i++) {
        const struct position_resume_point *point = &p->resume_points[i];

        if (point->order == ROW_ORDER_BY_FINGERPRINT && point->xid == row->xid &&
            point->is_tombstone == row->is_tombstone &&
            point->fingerprint == row->fingerprint && row->nth <= point->n)
            return true;
    }
    return false;
}

/* Adds a row to the chunk in hand. */
static bool deliver(struct reading *r, struct method_row *row, struct err *e)
{
    struct source *s = r->source;
    struct chunk_row out = {
        .xid = row->xid,
        .is_key_only = row->is_tombstone,
        .place = row->place,
        .fingerprint = row->fingerprint,
        .nth = row->nth,
    };
    struct chunk *chunk;

    if (!reading_start_chunk(r, e))
        return false;
    chunk = &r->message->chunk;
    if (source_has_hashes(s) && !key_census_take_hash(r->census, chunk, &row->p, row->end, e))
        return false;
    out.len = (uint32_t)(row->end - row->p);
    out.op = row->is_tombstone || rowtype_is_soft_deleted(s->facts.rowtype, row->p, out.len)
                 ? OP_DELETE
             : row->is_old || (r->is_whole && r->part == READING_LEAVES)
                 ? OP_READ
                 : OP_UPSERT;
    return chunk_add(chunk, &out, row->p) || err_memory(e);
}

/* Reads the place of a row, "oid\t(block,line)\t". *leaf: that of the row before; becomes that of
 * this row. */
static bool read_place(const struct relation *t, const struct relation_leaf **leaf,
                       struct method_row *row)
{
    uint64_t oid, block, line;
    const char *p = row->p;

    if (!copytext_read_u64(&p, row->end, &oid) || p == row->end || *p++ != '(' ||
        !text_read_u64(&p, row->end, &block) || p == row->end || *p++ != ',' ||
        !text_read_u64(&p, row->end, &line) || row->end - p < 2 || p[0] != ')' || p[1] != '\t')
        return false;
    if (*leaf == NULL || (*leaf)->oid != oid)
        *leaf = relation_leaf(t, (uint32_t)oid);
    row->place = (struct chunk_place){
        .filenode = *leaf != NULL ? (*leaf)->filenode : 0,
        .block = (uint32_t)block,
        .line = (uint32_t)line,
    };
    row->p = p + 2;
    return true;
}

/* Reads the fingerprint and the place, which stand before a row's fields if the row type says
 * so. */
static bool read_order(struct reading *r, struct method_row *row)
{
    const struct rowtype *s = r->source->facts.rowtype;

    if (r->part == READING_XIDS)
        return true;
    if (r->part == READING_POLL && s->order == ROW_ORDER_BY_FINGERPRINT &&
        (!copytext_read_i64(&row->p, row->end, &row->fingerprint) || row->p[-1] != '\t'))
        return false;
    return !s->has_place || read_place(&r->source->facts.table, &r->leaf, row);
}

static bool take_line(struct reading *r, const char *text, size_t len, struct err *e)
{
    struct method_row row = { .p = text, .end = text + len };

    if (len > UINT32_MAX)
        return method_fail_row(e);
    if (!r->copy->take(r->source, &r->method, &row, e))
        return false;
    if (!read_order(r, &row))
        return method_fail_row(e);
    switch (row.fate) {
    case METHOD_SKIP:
        return true;
    case METHOD_LEAVE:
        r->method.has_left = true;
        return key_census_leave(r->census, row.p, row.end, e);
    case METHOD_DELIVER:
        break;
    }
    if (r->part == READING_POLL && r->source->facts.rowtype->order == ROW_ORDER_BY_FINGERPRINT &&
        was_counted(r, &row))
        return true;
    if (r->part == READING_RANGE || r->part == READING_REREAD) {
        if (was_delivered(r, &row) || (r->part == READING_REREAD && is_soft_deleted(r, &row)))
            return true;
        *(r->part == READING_RANGE ? &r->source->position.rows
                                   : &r->source->position.reread.rows) += 1;
    }
    return deliver(r, &row, e);
}

/* A COPY of rows is over: chooses the next part. */
static void end_rows(struct reading *r)
{
    end_copy(r);
    if (r->half == READING_LOWER) {
        r->half = second_reader_end(r->source->second) ? READING_UPPER : READING_REST;
        return;
    }
    if ((r->part == READING_POLL || r->part == READING_XIDS) && r->census->is_wanted &&
        !r->census->is_skipped)
        r->part = READING_TALLY;
    else if (r->part != READING_LEAVES)
        r->is_over = true;
}

/* Fills the chunk in hand until it is full or the COPY is over. */
static bool fill_chunk(struct reading *r, struct conn *conn, struct err *e)
{
    const char *text;
    size_t len;

    while (r->message == NULL || !chunk_is_full(&r->message->chunk)) {
        switch (conn_copy_next(conn, &text, &len, e)) {
        case CONN_COPY_LINE:
            r->n_lines++;
            if (!take_line(r, text, len, e))
                return conn_fail_answer(conn, e);
            break;
        case CONN_COPY_END:
            end_rows(r);
            return true;
        case CONN_COPY_FAILED:
            return false;
        }
    }
    r->full_rows = r->message->chunk.n_rows;
    r->full_bytes = r->message->chunk.n_bytes;
    return true;
}

/* The same with what the second reader has. */
static bool take_upper_half(struct reading *r, struct err *e)
{
    const char *text;
    size_t len;

    while (r->message == NULL || !chunk_is_full(&r->message->chunk)) {
        if (!second_reader_next(r->source->second, &text, &len)) {
            r->is_over = true;
            return true;
        }
        r->n_lines++;
        if (!take_line(r, text, len, e))
            return false;
    }
    return true;
}

/* ---- the census ---- */

static bool start_census(struct reading *r, struct conn *conn, struct err *e)
{
    const struct sql_query q = method_query(r->source);
    struct buf sql;

    buf_init(&sql, BUF_SQL_MAX);
    if (r->part != READING_KEYS)
        sql_census_tally(&sql, &q, key_census_width(r->census),
                         r->part == READING_COUNTS ? &r->source->position : NULL);
    else
        sql_keys(&sql, &q, r->census->asked->buckets,
                 key_census_wants_rows(r->census, r->source));
    return send_copy(r, conn, &sql, e);
}

/* Reads the tally, unless that was read before the poll's rows. */
static bool read_tally(struct reading *r, struct conn *conn, struct err *e)
{
    uint64_t n_new;

    if (r->census->has_counts)
        return true;
    if ((!r->in_copy && !start_census(r, conn, e)) ||
        !key_census_read_tally(r->census, r->source, conn, &n_new, e))
        return false;
    end_copy(r);
    if (r->part == READING_COUNTS)
        r->part = n_new > 0 ? READING_POLL : READING_TALLY;
    return true;
}

/* Reads for the census. *message: for the host; NULL if it asks for no keys, so that all was
 * read, or the poll's rows come next. */
static bool read_census(struct reading *r, struct conn *conn, struct message **message,
                        struct err *e)
{
    const struct source *s = r->source;

    if (r->part != READING_KEYS) {
        if (!read_tally(r, conn, e))
            return false;
        if (r->part == READING_POLL)
            return true;
        *message = key_census_take_tally(r->census);
        r->part = READING_KEYS; /* if the host asks for any */
        return *message != NULL || err_memory(e);
    }
    if ((r->is_over = r->census->asked == NULL))
        return true;
    if (!r->in_copy && !start_census(r, conn, e))
        return false;
    if (!key_census_read_keys(r->census, s, conn, message, e))
        return false;
    r->is_over = (*message)->chunk.ends;
    if (r->is_over)
        end_copy(r);
    return true;
}

bool reading_next(struct reading *r, struct conn *conn, struct message **message,
                  struct err *e)
{
    r->is_over = r->is_over || r->part == READING_NONE;
    while (!r->is_over && *message == NULL &&
           (r->message == NULL || !chunk_is_full(&r->message->chunk))) {
        if (r->half == READING_UPPER) {
            if (!take_upper_half(r, e))
                return false;
        } else if (r->part == READING_COUNTS || r->part == READING_TALLY ||
                   r->part == READING_KEYS) {
            if (!read_census(r, conn, message, e))
                return false;
        } else if (!r->in_copy && !start_copy(r, conn, e)) {
            return false;
        } else if (!r->is_over && !fill_chunk(r, conn, e)) {
            return false;
        }
    }
    return true;
}
