/* stream.c -- one stream of the server's log for the sources of a slot.
 * SPDX-License-Identifier: MIT */
#include "capture/stream.h"

#include "base/clock.h"
#include "capture/complete.h"
#include "capture/fault.h"
#include "capture/stream_ahead.h"
#include "capture/stream_connect.h"
#include "capture/stream_events.h"
#include "capture/stream_later.h"
#include "capture/stream_table.h"
#include "pg/lsn.h"
#include "pg/replication.h"

#include <stdlib.h>
#include <string.h>

struct stream {
    const struct config *config;
    const char *publications;
    struct replication *replication; /* NULL: it is closed */
    struct stream_ahead ahead;
    struct connect_orphan left;
    struct stream_batch batch;
    struct complete *complete;
    struct stream_table_list tables;
    uint64_t began, passed; /* it was begun here, and is here */
    bool has_messages;   /* somebody wants those of pg_logical_emit_message */
    struct stream_events_transaction now;
    uint32_t announced;  /* the table that was announced just before; 0: something else came */
    bool begins_anew;    /* the server is to begin anew with the transaction that came */
    bool meets_leaf;     /* a partition has changes that is to be read first, see log_leaves.h */
    /* one that the connection was lost in, and that the batch in hand has a part of: */
    uint64_t cut;        /* its commit LSN; 0: there is none */
    struct buf row, old; /* scratch; <old>: the row before, empty where that is not known */
    bool lacks;          /* <row> lacks values that the update left as they were */
};

struct stream *stream_new(const struct config *config, const char *publications, size_t n_sources)
{
    struct stream *st = calloc(1, sizeof *st);

    if (st == NULL || !stream_batch_init(&st->batch, n_sources)) {
        free(st);
        return NULL;
    }
    st->config = config;
    st->publications = publications;
    buf_init(&st->row, SIZE_MAX / 2);
    buf_init(&st->old, SIZE_MAX / 2);
    st->complete = complete_new(n_sources);
    if (st->complete != NULL)
        return st;
    stream_free(st);
    return NULL;
}

void stream_free(struct stream *st)
{
    if (st == NULL)
        return;
    stream_close(st);
    stream_batch_fini(&st->batch);
    complete_free(st->complete);
    stream_table_fini_all(&st->tables);
    buf_fini(&st->row);
    buf_fini(&st->old);
    free(st);
}

uint64_t stream_passed(const struct stream *st)
{
    return st->passed;
}

bool stream_has(const struct stream *st, size_t i)
{
    return st->batch.members[i].has_out || st->batch.members[i].message != NULL;
}

bool stream_is_amid(const struct stream *st)
{
    return st->now.is_there || stream_batch_has(&st->batch) ||
           !queue_list_is_empty(complete_held(st->complete));
}

void stream_attach(struct stream *st, size_t i, struct source *source)
{
    const struct logical *log = &source->position.logical;
    uint64_t lsn = log->lsn;

    st->batch.members[i] = (struct stream_batch_member){ .source = source,
                                                         .told = st->batch.members[i].told };
    st->batch.members[i].place.before = log->inside;
    if (source->facts.table.is_partitioned && lsn > st->passed)
        st->batch.members[i].anew = lsn;
    if (lsn < st->passed || (source->config->wants_messages && !st->has_messages))
        stream_close(st); /* to begin anew, as this source wants it */
    st->has_messages = st->has_messages || source->config->wants_messages;
}

void stream_detach(struct stream *st, size_t i)
{
    message_free(st->batch.members[i].message); /* of a stop: what it has comes again */
    st->batch.members[i] = (struct stream_batch_member){ .source = NULL,
                                                         .told = st->batch.members[i].told };
}

/* ---- the connection ---- */

/* Where the server is to begin: where the source is that is the least far. */
static uint64_t start_of(const struct stream *st)
{
    uint64_t least = UINT64_MAX;

    for (size_t i = 0; i < st->batch.n_members; i++)
        if (st->batch.members[i].source != NULL &&
            st->batch.members[i].source->position.logical.lsn < least)
            least = st->batch.members[i].source->position.logical.lsn;
    return least;
}

static bool open(struct stream *st, struct conn *conn, struct err *e)
{
    struct begin_facts now = { .rowtype = NULL };
    bool ok = begin_identify(&now, conn, e);

    for (size_t i = 0; ok && i < st->batch.n_members; i++)
        ok = st->batch.members[i].source == NULL ||
             stream_connect_check(st->batch.members[i].source, &now.identity, e);
    begin_facts_fini(&now);
    st->began = st->passed = start_of(st);
    if (ok)
        st->replication = stream_connect_start(st->config, &(struct replication_request){
            st->config->slot, st->passed, st->publications, st->has_messages }, conn, &st->left, e);
    stream_table_fini_all(&st->tables);
    st->now.is_there = st->meets_leaf = false;
    st->announced = 0;
    return ok && st->replication != NULL;
}

/* What was made of the transaction in hand stays, and is passed over when that comes again. */
static void cut(struct stream *st)
{
    if (!st->now.is_there)
        return;
    for (size_t i = 0; i < st->batch.n_members; i++)
        stream_place_cut(&st->batch.members[i].place);
    st->cut = stream_batch_has(&st->batch) ? st->now.begin.commit_lsn : 0;
    st->now.is_there = false;
}

void stream_close(struct stream *st)
{
    cut(st);
    stream_ahead_fini(&st->ahead);
    replication_close(st->replication, &st->left);
    st->replication = NULL;
}

bool stream_confirm(struct stream *st, uint64_t lsn, bool asks, struct err *e)
{
    return st->replication == NULL || replication_confirm(st->replication, lsn, asks, e);
}

/* Of a complete_fill_ahead. */
static bool look_ahead(void *arg, struct complete_fill *f, const struct source *s, uint64_t lsn,
                       bool *is_all, struct err *e)
{
    struct stream *st = arg;
    struct stream_later later = { .ahead = &st->ahead, .replication = st->replication,
                                  .tables = &st->tables, .source = s, .fill = f };

    while (st->batch.members[later.i].source != s)
        later.i++;
    return stream_later_look(&later, lsn, is_all, e);
}

/* Completes all that there is, also the chunks in hand. <is_between>: no row is in hand that is not
 * part of that. */
static bool flush(struct stream *st, bool is_between, struct conn *conn, struct err *e)
{
    const struct complete_fill_ahead ahead = { .arg = st, .look = look_ahead };
    const struct complete_flushing how = {
        .open_xid = st->now.is_there ? st->now.xid : 0,
        .ahead = is_between && st->replication != NULL ? &ahead : NULL,
    };

    stream_batch_give(&st->batch, complete_held(st->complete));
    return complete_flush(st->complete, &how, conn, e);
}

bool stream_end(struct stream *st, struct conn *conn, struct queue_list *out, struct err *e)
{
    struct complete *c = st->complete;
    bool ok = stream_batch_end(&st->batch, complete_held(c), e) && flush(st, true, conn, e);

    complete_release(c, out);
    return ok;
}

bool stream_abandon(struct stream *st, struct conn *conn, struct queue_list *out, struct err *e)
{
    stream_close(st);
    st->cut = 0;
    return stream_end(st, conn, out, e);
}

bool stream_tell(struct stream *st, struct queue_list *out, struct err *e)
{
    return stream_batch_tell(&st->batch, out, e);
}

/* ---- rows ---- */

/* True if the row of an update is as it was, and such are not wanted. (Columns that are not in the
 * row may be others, and the condition or generated columns with them.) */
static bool is_skipped(const struct stream *st, const struct source *s)
{
    return s->config->skips_unchanged &&
           (s->config->n_columns == 0 || !complete_computes(s)) &&
           st->row.len == st->old.len && memcmp(st->row.data, st->old.data, st->old.len) == 0;
}

/* Adds a row that stands in st->row, and of an update or a delete the one before in st->old. Both
 * stood in <of>. */
static bool add(struct stream *st, struct stream_batch_member *m, enum op op,
                const struct pgoutput_row *of, struct queue_list *out, struct err *e)
{
    size_t i = (size_t)(m - st->batch.members);
    struct chunk_row row = {
        .len = (uint32_t)st->row.len,
        .op = op,
        .is_key_only = op == OP_DELETE,
        .has_unknown = op != OP_DELETE && st->lacks,
        .xid = st->now.xid,
        .log = { .lsn = st->now.lsn, .us = st->now.begin.ts + STREAM_EVENTS_EPOCH_US },
    };
    bool is_passed;

    if (!buf_ok(&st->row) || !buf_ok(&st->old) || st->row.len > UINT32_MAX)
        return err_memory(e);
    m->n_rows++;
    if (!stream_place_count(&m->place, st->now.lsn, &is_passed, e))
        return false;
    if (is_passed)
        return true;
    if (op == OP_UPDATE && is_skipped(st, m->source))
        return true;
    row.log.nth = (uint32_t)m->place.nth;
    if (op != OP_DELETE && !complete_waits(st->complete, i) &&
        rowtype_is_soft_deleted(m->source->facts.rowtype, st->row.data, st->row.len))
        row.op = OP_DELETE;
    return stream_batch_add(&st->batch, m, &row, st->row.data, op != OP_INSERT ? &st->old : NULL,
                            out, e) &&
           complete_add(st->complete, i, op != OP_DELETE ? &of->new : NULL,
                        of->has_old == PGOUTPUT_OLD_ROW && op != OP_INSERT ? &of->old : NULL,
                        row.has_unknown, e);
}

static bool add_row(struct stream *st, struct stream_batch_member *m, const struct stream_table *t,
                    const struct pgoutput_message *message, struct queue_list *out, struct err *e)
{
    const struct pgoutput_row *row = &message->row;
    bool is_other_key = false;

    if (message->kind != PGOUTPUT_INSERT && !stream_table_check_key(t, e))
        return false;
    buf_clear(&st->old);
    if (row->has_old == PGOUTPUT_OLD_ROW && !stream_table_put_old(t, &row->old, &st->old, e))
        return false;
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
static bool read_facts(struct stream_batch_member *m, struct conn *conn, struct queue_list *out,
                       struct err *e)
{
    bool ok = fault_look(m->source, conn, false, e) && source_add_schema(m->source, e);

    conn_rollback(conn);
    if (ok)
        stream_batch_give_news(m, out);
    return ok;
}

/* The columns of the relation in the source's rows; *t NULL: it has none of it. */
static bool find_table(struct stream *st, size_t i, uint32_t oid, struct conn *conn,
                       struct queue_list *out, struct stream_table **t, struct err *e)
{
    struct stream_batch_member *m = &st->batch.members[i];
    bool is_known;

    *t = NULL;
    if (!stream_table_is_of(m->source, oid))
        return true;
    if (!stream_table_find(&st->tables, oid, i, m->source, t, &is_known, e))
        return false;
    if (*t == NULL)
        return err_set(e, ERR_ANSWER, "a row of a table that was not announced");
    if (is_known)
        return true;
    return read_facts(m, conn, out, e) &&
           stream_table_find(&st->tables, oid, i, m->source, t, &is_known, e);
}

/* Before rows come that lack something else than those that wait, these are completed. */
static bool begin_table(struct stream *st, size_t i, const struct stream_table *t,
                        struct conn *conn, struct err *e)
{
    struct source *s = st->batch.members[i].source;

    return !complete_is_other(st->complete, i, s, t) ||
           (flush(st, false, conn, e) && complete_begin(st->complete, i, s, t, conn, e));
}

static bool take_row(struct stream *st, const struct pgoutput_message *message, struct conn *conn,
                     struct queue_list *out, struct err *e)
{
    if (!st->now.is_there)
        return err_set(e, ERR_ANSWER, "a row outside of a transaction");
    for (size_t i = 0; i < st->batch.n_members; i++) {
        struct stream_batch_member *m = &st->batch.members[i];
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

/* ---- relations ---- */

/* The partition's changes come next: if it is new, it is to be read before. */
static bool look_at_leaf(struct stream *st, struct stream_batch_member *m, uint32_t oid,
                         struct conn *conn, struct queue_list *out, struct err *e)
{
    struct log_leaves *l = &m->source->log_leaves;

    if (!log_leaves_is_past(l, st->now.begin.commit_lsn) && !read_facts(m, conn, out, e))
        return false;
    if (!log_leaves_is_new(l, &m->source->position, oid))
        return log_leaves_know(l, &m->source->position, oid) || err_memory(e);
    l->met_lsn = st->now.begin.commit_lsn;
    st->meets_leaf = true;
    return true;
}

/* (A partition is announced after its table.) */
static bool announce(struct stream *st, const struct pgoutput_relation *r, struct conn *conn,
                     struct queue_list *out, struct err *e)
{
    uint32_t before = st->announced;

    st->announced = r->oid;
    for (size_t i = 0; i < st->batch.n_members; i++) {
        struct stream_batch_member *m = &st->batch.members[i];

        if (m->source != NULL && m->source->facts.table.is_partitioned &&
            m->source->facts.table.oid == before && st->now.is_there &&
            !look_at_leaf(st, m, r->oid, conn, out, e))
            return false;
    }
    if (!stream_table_announce(&st->tables, r, e))
        return false;
    /* (an ALTER TABLE may have changed rows that are kept, see chunk.h) */
    for (size_t i = 0; i < st->batch.n_members; i++)
        if (st->batch.members[i].source != NULL &&
            source_keeps_by_log(st->batch.members[i].source))
            stream_table_look_again(&st->tables, r->oid);
    return true;
}

/* ---- transactions ---- */

/* True if the transaction is to be sent anew, by a server that has not sent those before it: it is
 * the first one of a source, and others of the slot have read what was before. */
static bool must_begin_anew(struct stream *st, uint64_t commit_lsn, struct conn *conn)
{
    bool must = false;

    for (size_t i = 0; i < st->batch.n_members; i++) {
        struct stream_batch_member *m = &st->batch.members[i];

        if (m->source == NULL || m->anew == 0 || commit_lsn < m->anew)
            continue;
        must = must || (st->began < m->anew && conn_version(conn) < 150000);
        m->anew = 0;
    }
    return must;
}

static bool begin(struct stream *st, const struct pgoutput_begin *b, struct conn *conn,
                  struct err *e)
{
    if (st->now.is_there)
        return err_set(e, ERR_ANSWER, "a transaction in a transaction");
    st->begins_anew = must_begin_anew(st, b->commit_lsn, conn);
    if (st->begins_anew)
        return true;
    st->now.is_there = true;
    st->now.begin = *b;
    st->batch.inside = (struct stream_batch_size){ 0 };
    for (size_t i = 0; i < st->batch.n_members; i++) {
        struct stream_batch_member *m = &st->batch.members[i];

        if (m->source == NULL)
            continue;
        m->n_rows = 0;
        if (!stream_place_begin(&m->place, b->commit_lsn, e))
            return false;
        st->now.xid = logical_widen(b->xid, m->source->facts.snapshot.xmax);
        m->is_done = logical_is_done(&m->source->position.logical, b->commit_lsn, st->now.xid);
    }
    return true;
}

/* All before <lsn> is done, and, if <xid> is not 0, was done by it. */
static bool pass(struct stream *st, uint64_t lsn, uint64_t xid, struct err *e)
{
    if (lsn > st->passed)
        st->passed = lsn;
    for (size_t i = 0; i < st->batch.n_members; i++) {
        struct stream_batch_member *m = &st->batch.members[i];
        struct xidset *seen;

        if (m->source == NULL)
            continue;
        if (!stream_place_pass(&m->place, lsn, e))
            return false;
        logical_advance(&m->source->position.logical, lsn);
        log_floor_rise(&m->source->log_floor, m->source->position.logical.lsn,
                       &m->source->position.horizon);
        if (xid == 0 || m->place.n == 0)
            continue;
        seen = &m->source->position.horizon.seen;
        if (seen->n >= LOGICAL_MOST_SEEN)
            memmove(seen->v, seen->v + 1, --seen->n * sizeof *seen->v);
        if (xid >= m->source->position.horizon.floor && !xidset_add(seen, xid))
            return err_memory(e);
    }
    return true;
}

static bool commit(struct stream *st, const struct pgoutput_commit *c, struct queue_list *out,
                   struct err *e)
{
    if (!st->now.is_there || c->commit_lsn != st->now.begin.commit_lsn)
        return err_set(e, ERR_ANSWER, "a commit of another transaction than the one that began");
    for (size_t i = 0; i < st->batch.n_members; i++)
        if (!stream_place_end(&st->batch.members[i].place, e) ||
            !stream_events_commit(&st->now, &st->batch, &st->batch.members[i], out, e))
            return false;
    if (!pass(st, c->end_lsn, st->now.xid, e))
        return false;
    st->now.is_there = false;
    st->cut = 0;
    for (size_t i = 0; i < st->batch.n_members; i++)
        if (st->batch.members[i].source != NULL)
            stream_batch_give_news(&st->batch.members[i], out);
    return true;
}

static bool take_pgoutput(struct stream *st, const struct replication_message *r,
                          struct conn *conn, struct queue_list *out, struct err *e)
{
    struct pgoutput_message m;

    if (!pgoutput_read(&m, r->p, r->len, e))
        return false;
    if (m.kind != PGOUTPUT_RELATION && m.kind != PGOUTPUT_TYPE)
        st->announced = 0;
    switch (m.kind) {
    case PGOUTPUT_BEGIN:
        return begin(st, &m.begin, conn, e);
    case PGOUTPUT_COMMIT:
        return commit(st, &m.commit, out, e);
    case PGOUTPUT_RELATION:
        return announce(st, &m.relation, conn, out, e);
    case PGOUTPUT_INSERT:
    case PGOUTPUT_UPDATE:
    case PGOUTPUT_DELETE:
        return take_row(st, &m, conn, out, e);
    case PGOUTPUT_TRUNCATE:
        return stream_events_truncate(&st->now, &st->batch, &m.truncate, out, e);
    case PGOUTPUT_MESSAGE:
        return stream_events_emitted(&st->now, &st->batch, &m.logical, out, e);
    case PGOUTPUT_ORIGIN:
    case PGOUTPUT_TYPE:
        break;
    }
    return true;
}

/* What cannot be is told with the place in the log where it is. */
static bool take_message(struct stream *st, const struct replication_message *r, struct conn *conn,
                         struct queue_list *out, struct err *e)
{
    char text[LSN_TEXT];

    if (r->lsn != 0)
        st->now.lsn = r->lsn;
    if (take_pgoutput(st, r, conn, out, e))
        return true;
    if (e->code != ERR_ANSWER)
        return false;
    e->code = ERR_INTERNAL; /* ours or the server's: the database did not refuse anything */
    return err_prefix(e, "the log at %s", lsn_write(st->now.lsn, text));
}

/* ---- reading ---- */

bool stream_can_end(const struct stream *st)
{
    return !st->now.is_there && st->cut == 0 && stream_is_amid(st);
}

/* True if the batch is too big to go on: between two transactions; in one only if that is too big
 * to wait for its end. */
static bool must_end(const struct stream *st)
{
    if (st->now.is_there)
        return stream_batch_is_big(&st->batch.inside);
    return stream_can_end(st) && stream_batch_is_big(&st->batch.size);
}

/* One message, or none: *is_empty. */
static bool read_one(struct stream *st, struct conn *conn, int64_t deadline_ms,
                     struct queue_list *out, bool *is_empty, struct err *e)
{
    struct replication_message r;

    *is_empty = false;
    if (!stream_ahead_next(&st->ahead, st->replication, deadline_ms, &r, e))
        return false;
    switch (r.kind) {
    case REPLICATION_DATA:
        return take_message(st, &r, conn, out, e);
    case REPLICATION_KEEPALIVE:
        /* between Begin and Commit it says nothing of what we have */
        return st->now.is_there || st->cut != 0 || pass(st, r.end, 0, e);
    case REPLICATION_NOTHING:
        break;
    }
    *is_empty = true;
    return true;
}

static bool read_some(struct stream *st, struct conn *conn, int64_t deadline_ms, int64_t rest_ms,
                      struct queue_list *out, enum stream_found *found, struct err *e)
{
    bool is_empty;

    if (st->replication == NULL && !open(st, conn, e))
        return false;
    if (stream_can_end(st))
        deadline_ms = rest_ms > 0 ? clock_mono_ms() + rest_ms : 0;
    if (!read_one(st, conn, deadline_ms, out, &is_empty, e))
        return false;
    if (st->begins_anew)
        stream_close(st);
    st->begins_anew = false;
    *found = st->meets_leaf ? STREAM_LEAF : is_empty ? STREAM_NOTHING : STREAM_SOME;
    if (st->meets_leaf || !must_end(st))
        return true;
    *found = STREAM_BATCH;
    return stream_batch_end(&st->batch, out, e) && flush(st, true, conn, e);
}

bool stream_read(struct stream *st, struct conn *conn, int64_t deadline_ms, int64_t rest_ms,
                 struct queue_list *out, enum stream_found *found, struct err *e)
{
    struct complete *c = st->complete;
    bool ok = read_some(st, conn, deadline_ms, rest_ms, complete_held(c), found, e) &&
              (!complete_is_due(c) || flush(st, true, conn, e));

    complete_release(c, out);
    if (!ok)
        stream_close(st);
    return ok;
}
