/* stream.c -- one stream of the server's log for the sources of a slot.
 * SPDX-License-Identifier: MIT */
#include "capture/stream.h"

#include "base/array.h"
#include "base/clock.h"
#include "capture/complete.h"
#include "capture/fault.h"
#include "capture/stream_table.h"
#include "pg/lsn.h"
#include "pg/replication.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define BATCH_ROWS 10000
#define BATCH_BYTES ((size_t)4 << 20)
#define EPOCH_US (INT64_C(946684800) * 1000000) /* 2000-01-01, when times of the log begin */
#define MOST_SEEN 1000000 /* xids that a position has; the oldest go first */

/* What the stream keeps of a source. */
struct member {
    struct source *source;   /* borrowed; NULL: it is not attached */
    struct message *message; /* a chunk that is being filled; owned; NULL: none */
    bool has_out;            /* chunks of the batch were handed out */
    uint64_t n_rows;         /* of the transaction in hand, that were made */
    uint64_t n_passed;       /* of them, how many were made before the connection was lost */
    uint64_t lsn;            /* of the last row, */
    uint32_t nth;            /* and its number among those with this LSN */
    bool is_done;            /* the transaction in hand was delivered before */
    uint64_t told;           /* the LSN of the position that was handed out last */
};

struct stream {
    const char *slot, *publication;
    struct replication *replication; /* NULL: it is closed */
    struct connect_orphan left;
    struct member *members;
    size_t n_members;
    struct stream_table_list tables;
    uint64_t passed;
    /* the transaction in hand: */
    bool is_in_transaction;
    struct pgoutput_begin begin;
    uint64_t xid;
    uint64_t lsn;        /* of the record in hand */
    /* one that the connection was lost in: */
    uint64_t cut;        /* its commit LSN; 0: there is none */
    /* the batch in hand: */
    size_t n_rows, n_bytes;
    struct buf row;      /* scratch */
    bool lacks;          /* it lacks values that the update left as they were */
    struct complete *complete;
};

struct stream *stream_new(const char *slot, const char *publication, size_t n_sources)
{
    struct stream *st = calloc(1, sizeof *st);

    if (st == NULL)
        return NULL;
    st->members = calloc(n_sources + 1, sizeof *st->members);
    st->complete = complete_new(n_sources);
    if (st->members == NULL || st->complete == NULL) {
        stream_free(st);
        return NULL;
    }
    st->slot = slot;
    st->publication = publication;
    st->n_members = n_sources;
    buf_init(&st->row, SIZE_MAX / 2);
    return st;
}

void stream_free(struct stream *st)
{
    if (st == NULL)
        return;
    stream_close(st);
    for (size_t i = 0; i < st->n_members; i++)
        message_free(st->members[i].message);
    complete_free(st->complete);
    stream_table_fini_all(&st->tables);
    buf_fini(&st->row);
    free(st->members);
    free(st);
}

uint64_t stream_passed(const struct stream *st)
{
    return st->passed;
}

bool stream_is_amid(const struct stream *st)
{
    for (size_t i = 0; i < st->n_members; i++)
        if (st->members[i].has_out || st->members[i].message != NULL)
            return true;
    return !queue_list_is_empty(complete_held(st->complete));
}

void stream_attach(struct stream *st, size_t i, struct source *source)
{
    uint64_t lsn = source->position.logical.lsn;

    st->members[i] = (struct member){ .source = source, .told = lsn };
    if (lsn < st->passed)
        stream_close(st); /* to begin anew, where this source is */
}

void stream_detach(struct stream *st, size_t i)
{
    st->members[i] = (struct member){ .source = NULL };
}

/* ---- the connection ---- */

/* Where the server is to begin: where the source is that is the least far. */
static uint64_t start_of(const struct stream *st)
{
    uint64_t least = UINT64_MAX;

    for (size_t i = 0; i < st->n_members; i++)
        if (st->members[i].source != NULL &&
            st->members[i].source->position.logical.lsn < least)
            least = st->members[i].source->position.logical.lsn;
    return least;
}

/* The name in double quotes, as the server splits the list. */
static bool start(struct stream *st, struct err *e)
{
    struct buf names;
    bool ok;

    buf_init(&names, BUF_SQL_MAX);
    sql_put_ident(&names, st->publication);
    st->passed = start_of(st);
    ok = buf_ok(&names) ? replication_start(st->replication, st->slot, st->passed, names.data, e)
                        : err_memory(e);
    buf_fini(&names);
    return ok;
}

static bool open(struct stream *st, struct conn *conn, struct err *e)
{
    st->replication = replication_open(conn, &st->left, e);
    if (st->replication == NULL)
        return false;
    stream_table_fini_all(&st->tables);
    st->is_in_transaction = false;
    return start(st, e);
}

/* What was made of the transaction in hand stays, and is passed over when that comes again. */
static void cut(struct stream *st)
{
    bool is_again = st->begin.commit_lsn == st->cut;

    if (!st->is_in_transaction)
        return;
    st->cut = st->begin.commit_lsn;
    for (size_t i = 0; i < st->n_members; i++) {
        struct member *m = &st->members[i];

        if (!is_again || m->n_rows > m->n_passed)
            m->n_passed = m->n_rows;
    }
    st->is_in_transaction = false;
}

void stream_close(struct stream *st)
{
    cut(st);
    replication_close(st->replication, &st->left);
    st->replication = NULL;
}

bool stream_confirm(struct stream *st, uint64_t lsn, bool asks, struct err *e)
{
    return st->replication == NULL || replication_confirm(st->replication, lsn, asks, e);
}

/* ---- chunks ---- */

/* Hands out the chunk in hand. */
static void give(struct member *m, struct queue_list *out)
{
    if (m->message == NULL)
        return;
    m->has_out = true;
    queue_list_push(out, &m->message->item);
    m->message = NULL;
}

/* Makes sure that there is a chunk in hand, of the source's columns. Those of other sources are
 * handed out, so that all come in the order of the log. */
static bool start_chunk(struct stream *st, struct member *m, struct queue_list *out, struct err *e)
{
    struct rowtype *rowtype = m->source->facts.rowtype;

    for (size_t i = 0; i < st->n_members; i++)
        if (&st->members[i] != m)
            give(&st->members[i], out);
    if (m->message != NULL &&
        (m->message->chunk.rowtype != rowtype || chunk_is_full(&m->message->chunk)))
        give(m, out);
    if (m->message != NULL)
        return true;
    m->message = message_new(MESSAGE_ROWS, m->source->number);
    if (m->message == NULL)
        return err_memory(e);
    m->message->chunk.rowtype = rowtype_ref(rowtype);
    m->message->chunk.begins = !m->has_out;
    return true;
}

/* Completes all that there is, also the chunks in hand. */
static bool flush(struct stream *st, struct conn *conn, struct err *e)
{
    for (size_t i = 0; i < st->n_members; i++)
        give(&st->members[i], complete_held(st->complete));
    return complete_flush(st->complete, st->is_in_transaction ? st->xid : 0, conn, e);
}

static bool give_news(struct member *m, struct queue_list *out)
{
    struct message *news;

    while ((news = source_take_message(m->source)) != NULL) {
        give(m, out);
        queue_list_push(out, &news->item);
    }
    return true;
}

/* The chunk in hand is the last one of the source's batch, and brings its position. */
static bool end_chunk(struct stream *st, struct member *m, struct queue_list *out, struct err *e)
{
    struct position *p = &m->source->position;
    bool is_lazy = m->message == NULL && !m->has_out;

    if (!start_chunk(st, m, out, e))
        return false;
    m->message->chunk.is_lazy = is_lazy;
    m->message->chunk.ends = m->message->chunk.ends_batch = true;
    if (!chunk_set_position(&m->message->chunk, p))
        return err_memory(e);
    give(m, out);
    m->has_out = false;
    m->told = p->logical.lsn;
    return true;
}

static bool end_batch(struct stream *st, struct queue_list *out, struct err *e)
{
    for (size_t i = 0; i < st->n_members; i++) {
        struct member *m = &st->members[i];

        if (m->source != NULL && (m->has_out || m->message != NULL) && !end_chunk(st, m, out, e))
            return false;
    }
    st->n_rows = st->n_bytes = 0;
    return true;
}

bool stream_abandon(struct stream *st, struct conn *conn, struct queue_list *out, struct err *e)
{
    bool ok;

    stream_close(st);
    st->cut = 0;
    for (size_t i = 0; i < st->n_members; i++)
        st->members[i].n_passed = 0;
    ok = end_batch(st, complete_held(st->complete), e) && flush(st, conn, e);
    complete_release(st->complete, out);
    return ok;
}

bool stream_tell(struct stream *st, struct queue_list *out, struct err *e)
{
    for (size_t i = 0; i < st->n_members; i++) {
        struct member *m = &st->members[i];

        if (m->source != NULL && m->told != m->source->position.logical.lsn &&
            !end_chunk(st, m, out, e))
            return false;
    }
    return true;
}

/* ---- rows ---- */

static bool fail_stream(const struct stream *st, const char *what, struct err *e)
{
    char text[LSN_TEXT];

    return err_set(e, ERR_ANSWER, "the log at %s: %s", lsn_write(st->lsn, text), what);
}

/* Adds a row that stands in st->row, and stood in <of>. */
static bool add(struct stream *st, struct member *m, enum op op, const struct pgoutput_row *of,
                struct queue_list *out, struct err *e)
{
    size_t i = (size_t)(m - st->members);
    struct chunk_row row = {
        .len = (uint32_t)st->row.len,
        .op = op,
        .is_key_only = op == OP_DELETE,
        .has_unknown = op != OP_DELETE && st->lacks,
        .xid = st->xid,
        .log = { .lsn = st->lsn, .us = st->begin.ts + EPOCH_US },
    };

    m->nth = m->lsn == st->lsn ? m->nth + 1 : 1;
    m->lsn = st->lsn;
    row.log.nth = m->nth;

    if (!buf_ok(&st->row) || st->row.len > UINT32_MAX)
        return err_memory(e);
    if (m->n_rows++ < m->n_passed && st->begin.commit_lsn == st->cut)
        return true;
    if (op != OP_DELETE && !complete_waits(st->complete, i) &&
        rowtype_is_soft_deleted(m->source->facts.rowtype, st->row.data, st->row.len))
        row.op = OP_DELETE;
    st->n_rows++;
    st->n_bytes += st->row.len;
    if (!start_chunk(st, m, out, e))
        return false;
    if (!chunk_add(&m->message->chunk, &row, st->row.data))
        return err_memory(e);
    return complete_add(st->complete, i, op != OP_DELETE ? &of->new : NULL,
                        of->has_old == PGOUTPUT_OLD_ROW && op != OP_INSERT ? &of->old : NULL,
                        row.has_unknown, e);
}

static bool add_row(struct stream *st, struct member *m, const struct stream_table *t,
                    const struct pgoutput_message *message, struct queue_list *out, struct err *e)
{
    const struct pgoutput_row *row = &message->row;
    bool is_other_key = false;

    if (message->kind == PGOUTPUT_DELETE)
        return stream_table_put_key(t, &row->old, &st->row, e) &&
               add(st, m, OP_DELETE, row, out, e);
    if (row->has_old != PGOUTPUT_NO_OLD && !stream_table_is_other_key(t, row, &is_other_key, e))
        return false;
    if (is_other_key && !(stream_table_put_key(t, &row->old, &st->row, e) &&
                          add(st, m, OP_DELETE, row, out, e)))
        return false;
    return stream_table_put_row(t, row, &st->row, &st->lacks, e) &&
           add(st, m, message->kind == PGOUTPUT_INSERT || is_other_key ? OP_INSERT : OP_UPDATE, row,
               out, e);
}

/* The columns of a table are others than those that the source knows: reads the facts again, in a
 * transaction of its own. */
static bool read_facts(struct stream *st, struct member *m, struct conn *conn,
                       struct queue_list *out, struct err *e)
{
    bool ok = fault_look(m->source, conn, false, e) && source_add_schema(m->source, e);

    (void)st;
    conn_rollback(conn);
    return ok && give_news(m, out);
}

/* The columns of the relation in the source's rows; *t NULL: it has none of it. */
static bool find_table(struct stream *st, size_t i, uint32_t oid, struct conn *conn,
                       struct queue_list *out, struct stream_table **t, struct err *e)
{
    struct member *m = &st->members[i];
    bool is_known;

    *t = NULL;
    if (m->source->facts.table.oid != oid && relation_leaf(&m->source->facts.table, oid) == NULL)
        return true;
    if (!stream_table_find(&st->tables, oid, i, m->source, t, &is_known, e))
        return false;
    if (*t == NULL)
        return fail_stream(st, "a row of a table that was not announced", e);
    if (is_known)
        return true;
    return read_facts(st, m, conn, out, e) &&
           stream_table_find(&st->tables, oid, i, m->source, t, &is_known, e);
}

/* Before rows come that lack something else than those that wait, these are completed. */
static bool begin_table(struct stream *st, size_t i, const struct stream_table *t,
                        struct conn *conn, struct err *e)
{
    struct source *s = st->members[i].source;

    if (!complete_is_other(st->complete, i, s, t))
        return true;
    return flush(st, conn, e) && complete_begin(st->complete, i, s, t, conn, e);
}

static bool take_row(struct stream *st, const struct pgoutput_message *message, struct conn *conn,
                     struct queue_list *out, struct err *e)
{
    if (!st->is_in_transaction)
        return fail_stream(st, "a row outside of a transaction", e);
    for (size_t i = 0; i < st->n_members; i++) {
        struct member *m = &st->members[i];
        struct stream_table *t;

        if (m->source == NULL || m->is_done)
            continue;
        if (!find_table(st, i, message->row.relation, conn, out, &t, e) ||
            (t != NULL && !(begin_table(st, i, t, conn, e) &&
                            add_row(st, m, t, message, out, e))))
            return false;
    }
    return true;
}

static bool is_truncated(const struct member *m, const struct pgoutput_truncate *t)
{
    for (size_t k = 0; k < t->n; k++)
        if (m->source->facts.table.oid == pgoutput_truncated(t, k))
            return true;
    return false;
}

/* It is told where it stands among the rows, those of other sources too. */
static bool take_truncate(struct stream *st, const struct pgoutput_truncate *t,
                          struct queue_list *out, struct err *e)
{
    if (!st->is_in_transaction)
        return fail_stream(st, "a truncate outside of a transaction", e);
    for (size_t i = 0; i < st->n_members; i++) {
        struct member *m = &st->members[i];

        if (m->source == NULL || m->is_done || !is_truncated(m, t) ||
            (m->n_rows++ < m->n_passed && st->begin.commit_lsn == st->cut))
            continue;
        for (size_t k = 0; k < st->n_members; k++)
            give(&st->members[k], out);
        if (!source_add_truncate(m->source, e) || !give_news(m, out))
            return false;
    }
    return true;
}

/* ---- transactions ---- */

static bool begin(struct stream *st, const struct pgoutput_begin *b, struct err *e)
{
    if (st->is_in_transaction)
        return fail_stream(st, "a transaction in a transaction", e);
    st->is_in_transaction = true;
    st->begin = *b;
    for (size_t i = 0; i < st->n_members; i++) {
        struct member *m = &st->members[i];

        m->n_rows = 0;
        m->lsn = 0;
        if (m->source == NULL)
            continue;
        st->xid = logical_widen(b->xid, m->source->facts.snapshot.xmax);
        m->is_done = logical_is_done(&m->source->position.logical, b->commit_lsn, st->xid);
    }
    return true;
}

/* All before <lsn> is done, and, if <xid> is not 0, was done by it. */
static bool pass(struct stream *st, uint64_t lsn, uint64_t xid, struct err *e)
{
    if (lsn > st->passed)
        st->passed = lsn;
    for (size_t i = 0; i < st->n_members; i++) {
        struct member *m = &st->members[i];
        struct xidset *seen;

        if (m->source == NULL)
            continue;
        logical_advance(&m->source->position.logical, lsn);
        if (xid == 0 || m->n_rows == 0)
            continue;
        seen = &m->source->position.horizon.seen;
        if (seen->n >= MOST_SEEN)
            memmove(seen->v, seen->v + 1, --seen->n * sizeof *seen->v);
        if (xid >= m->source->position.horizon.floor && !xidset_add(seen, xid))
            return err_memory(e);
    }
    return true;
}

static bool commit(struct stream *st, const struct pgoutput_commit *c, struct queue_list *out,
                   struct err *e)
{
    if (!st->is_in_transaction || c->commit_lsn != st->begin.commit_lsn)
        return fail_stream(st, "a commit of another transaction than the one that began", e);
    if (!pass(st, c->end_lsn, st->xid, e))
        return false;
    st->is_in_transaction = false;
    st->cut = 0;
    for (size_t i = 0; i < st->n_members; i++)
        if (st->members[i].source != NULL && !give_news(&st->members[i], out))
            return false;
    return true;
}

static bool take_message(struct stream *st, const struct replication_message *r, struct conn *conn,
                         struct queue_list *out, struct err *e)
{
    struct pgoutput_message m;

    if (r->lsn != 0)
        st->lsn = r->lsn;
    if (!pgoutput_read(&m, r->p, r->len, e)) {
        char text[LSN_TEXT];

        return err_prefix(e, "the log at %s", lsn_write(st->lsn, text));
    }
    switch (m.kind) {
    case PGOUTPUT_BEGIN:
        return begin(st, &m.begin, e);
    case PGOUTPUT_COMMIT:
        return commit(st, &m.commit, out, e);
    case PGOUTPUT_RELATION:
        return stream_table_announce(&st->tables, &m.relation, e);
    case PGOUTPUT_INSERT:
    case PGOUTPUT_UPDATE:
    case PGOUTPUT_DELETE:
        return take_row(st, &m, conn, out, e);
    case PGOUTPUT_TRUNCATE:
        return take_truncate(st, &m.truncate, out, e);
    case PGOUTPUT_ORIGIN:
    case PGOUTPUT_TYPE:
    case PGOUTPUT_MESSAGE:
        break;
    }
    return true;
}

/* ---- reading ---- */

static bool is_big(const struct stream *st)
{
    return st->n_rows >= BATCH_ROWS || st->n_bytes >= BATCH_BYTES;
}

/* One message, or none: *is_empty. */
static bool read_one(struct stream *st, struct conn *conn, int64_t deadline_ms,
                     struct queue_list *out, bool *is_empty, struct err *e)
{
    struct replication_message r;

    *is_empty = false;
    if (!replication_next(st->replication, deadline_ms, &r, e))
        return false;
    switch (r.kind) {
    case REPLICATION_DATA:
        return take_message(st, &r, conn, out, e);
    case REPLICATION_KEEPALIVE:
        /* between Begin and Commit it says nothing of what we have */
        return st->is_in_transaction || st->cut != 0 || pass(st, r.end, 0, e);
    case REPLICATION_NOTHING:
        break;
    }
    *is_empty = true;
    return true;
}

static bool read_some(struct stream *st, struct conn *conn, int64_t deadline_ms,
                      struct queue_list *out, enum stream_found *found, struct err *e)
{
    bool is_amid = stream_is_amid(st), is_empty;

    *found = STREAM_SOME;
    if (st->replication == NULL && !open(st, conn, e))
        return false;
    if (!read_one(st, conn, is_amid && !st->is_in_transaction && st->cut == 0 ? 0 : deadline_ms,
                  out, &is_empty, e))
        return false;
    if (is_empty)
        *found = STREAM_NOTHING;
    if (st->is_in_transaction || st->cut != 0 || !stream_is_amid(st) || !(is_empty || is_big(st)))
        return true;
    *found = STREAM_BATCH;
    return end_batch(st, out, e) && flush(st, conn, e);
}

bool stream_read(struct stream *st, struct conn *conn, int64_t deadline_ms, struct queue_list *out,
                 enum stream_found *found, struct err *e)
{
    struct complete *c = st->complete;
    bool ok = read_some(st, conn, deadline_ms, complete_held(c), found, e) &&
              (!complete_is_due(c) || flush(st, conn, e));

    complete_release(c, out);
    if (!ok)
        stream_close(st);
    return ok;
}
