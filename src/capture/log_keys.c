/* log_keys.c -- of which rows of a table the log brings changes after a position.
 * SPDX-License-Identifier: MIT */
#include "capture/log_keys.h"

#include "base/clock.h"
#include "base/hash.h"
#include "capture/key_census.h"
#include "capture/slot_errors.h"
#include "capture/slot_holder.h"
#include "capture/sql.h"
#include "capture/stream_place.h"
#include "capture/stream_table.h"
#include "pg/lsn.h"
#include "pg/replication.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ASK_MS 200 /* how often the server is asked how far it is */
#define FIRST_CAP 1024

/* The reading. */
struct reader {
    struct log_keys *keys;
    const struct source *source;
    uint64_t until;
    struct stream_table_list tables;
    struct stream_place place;
    struct buf line;
    bool is_in_transaction, is_done; /* <is_done>: the transaction in hand was delivered before */
    bool is_over;
    uint32_t xid;
    uint64_t lsn;
};

void log_keys_fini(struct log_keys *k)
{
    free(k->v);
    buf_fini(&k->key);
    *k = (struct log_keys){ 0 };
}

bool log_keys_can_tell(const struct rowtype *rowtype)
{
    for (size_t i = 0; i < rowtype->n_key; i++) {
        const struct rowtype_column *column = &rowtype->columns[rowtype->key[i]];

        if (column->wants_to_json || column->expression != NULL)
            return false;
    }
    return rowtype->n_key > 0 && !rowtype->has_place;
}

/* ---- the set ---- */

static struct log_keys_item *find(const struct log_keys *k, uint64_t hash)
{
    size_t i = hash % k->cap;

    while (k->v[i].hash != 0 && k->v[i].hash != hash)
        i = (i + 1) % k->cap;
    return &k->v[i];
}

static bool grow(struct log_keys *k)
{
    struct log_keys larger = { .cap = k->cap > 0 ? 2 * k->cap : FIRST_CAP };

    larger.v = calloc(larger.cap, sizeof *larger.v);
    if (larger.v == NULL)
        return false;
    for (size_t i = 0; i < k->cap; i++)
        if (k->v[i].hash != 0)
            *find(&larger, k->v[i].hash) = k->v[i];
    free(k->v);
    k->v = larger.v;
    k->cap = larger.cap;
    return true;
}

/* Never 0. False: out of memory. */
static bool hash_key(struct log_keys *k, const struct rowtype *rowtype, const char *row, size_t len,
                     uint64_t *hash)
{
    buf_clear(&k->key);
    if (!rowtype_put_key(rowtype, row, len, &k->key))
        return false;
    *hash = hash_bytes(HASH_START, k->key.data, k->key.len);
    *hash += *hash == 0;
    return true;
}

const struct log_keys_item *log_keys_find(struct log_keys *k, const struct rowtype *rowtype,
                                    const char *row, size_t len, bool *ok)
{
    const struct log_keys_item *found;
    uint64_t hash;

    *ok = hash_key(k, rowtype, row, len, &hash);
    if (!*ok || k->cap == 0)
        return NULL;
    found = find(k, hash);
    return found->hash != 0 ? found : NULL;
}

uint64_t log_keys_hash_row(const char *row, size_t len)
{
    uint64_t hash = hash_bytes(HASH_START, row, len);

    return hash + (hash == 0);
}

/* True if the log has all that polls have, in the same text. */
static bool has_all(const struct rowtype *rowtype)
{
    for (size_t i = 0; i < rowtype->n_columns; i++)
        if (rowtype->columns[i].wants_to_json || rowtype->columns[i].expression != NULL)
            return false;
    return true;
}

/* Notes the row in r->line. <is_whole>: it lacks nothing. */
static bool note(struct reader *r, bool is_deleted, bool is_whole, struct err *e)
{
    struct log_keys *k = r->keys;
    struct log_keys_item key = { .xid = r->xid, .is_deleted = is_deleted };
    struct log_keys_item *to;

    if (k->n >= LOG_KEYS_MOST) {
        k->is_full = r->is_over = true;
        return true;
    }
    if (!hash_key(k, r->source->facts.rowtype, r->line.data, r->line.len, &key.hash) ||
        (2 * (k->n + 1) > k->cap && !grow(k)))
        return err_memory(e);
    if (is_whole && has_all(r->source->facts.rowtype))
        key.row = log_keys_hash_row(r->line.data, r->line.len);
    to = find(k, key.hash);
    k->n += to->hash == 0;
    *to = key;
    return true;
}

/* ---- the log ---- */

/* One of the changes that the stream makes of a row: it is counted as there. */
static bool take_change(struct reader *r, bool is_deleted, bool is_whole, struct err *e)
{
    bool is_passed;

    return stream_place_count(&r->place, r->lsn, &is_passed, e) &&
           (is_passed || note(r, is_deleted, is_whole, e));
}

static bool take_row(struct reader *r, const struct pgoutput_message *m, struct err *e)
{
    const struct pgoutput_row *row = &m->row;
    bool is_known, is_other_key = false, lacks;
    struct stream_table *t;

    if (r->is_done || row->relation != r->source->facts.table.oid)
        return true;
    if (!r->is_in_transaction)
        return err_set(e, ERR_ANSWER, "a row outside of a transaction");
    if (!stream_table_find(&r->tables, row->relation, 0, r->source, &t, &is_known, e))
        return false;
    if (t == NULL)
        return err_set(e, ERR_ANSWER, "a row of a table that was not announced");
    if (m->kind != PGOUTPUT_INSERT && !stream_table_check_key(t, e))
        return false;
    if (m->kind == PGOUTPUT_DELETE)
        return stream_table_put_key(t, &row->old, &r->line, e) &&
               take_change(r, true, false, e);
    if (row->has_old != PGOUTPUT_NO_OLD && !stream_table_is_other_key(t, row, &is_other_key, e))
        return false;
    if (is_other_key && !(stream_table_put_key(t, &row->old, &r->line, e) &&
                          take_change(r, true, false, e)))
        return false;
    return stream_table_put_row(t, row, &r->line, &lacks, e) &&
           take_change(r, false, !lacks, e);
}

static bool take_truncate(struct reader *r, const struct pgoutput_truncate *t, struct err *e)
{
    bool is_passed;

    for (size_t i = 0; i < t->n && !r->is_done; i++) {
        if (pgoutput_truncated(t, i) != r->source->facts.table.oid)
            continue;
        if (!stream_place_count(&r->place, r->lsn, &is_passed, e))
            return false;
        r->keys->is_truncated = r->keys->is_truncated || !is_passed;
        return true;
    }
    return true;
}

static bool begin(struct reader *r, const struct pgoutput_begin *b, struct err *e)
{
    r->is_over = b->commit_lsn >= r->until;
    if (r->is_over)
        return true;
    r->is_in_transaction = true;
    r->xid = b->xid;
    r->is_done = logical_is_done(&r->source->position.logical, b->commit_lsn,
                                 logical_widen(b->xid, r->source->facts.snapshot.xmax));
    return stream_place_begin(&r->place, b->commit_lsn, e);
}

static bool commit(struct reader *r, const struct pgoutput_commit *c, struct err *e)
{
    r->is_in_transaction = false;
    r->is_over = c->end_lsn >= r->until;
    return stream_place_end(&r->place, e);
}

static bool take_pgoutput(struct reader *r, const struct pgoutput_message *m, struct err *e)
{
    bool is_passed;

    switch (m->kind) {
    case PGOUTPUT_BEGIN:
        return begin(r, &m->begin, e);
    case PGOUTPUT_COMMIT:
        return commit(r, &m->commit, e);
    case PGOUTPUT_RELATION:
        return stream_table_announce(&r->tables, &m->relation, e);
    case PGOUTPUT_INSERT:
    case PGOUTPUT_UPDATE:
    case PGOUTPUT_DELETE:
        return take_row(r, m, e);
    case PGOUTPUT_TRUNCATE:
        return take_truncate(r, &m->truncate, e);
    case PGOUTPUT_MESSAGE: /* it is counted where the source wants it, see stream.c */
        return !m->logical.is_transactional || r->is_done ||
               stream_place_count(&r->place, r->lsn, &is_passed, e);
    case PGOUTPUT_ORIGIN:
    case PGOUTPUT_TYPE:
        break;
    }
    return true;
}

static bool take(struct reader *r, const struct replication_message *m, struct err *e)
{
    struct pgoutput_message p;
    char text[LSN_TEXT];

    switch (m->kind) {
    case REPLICATION_DATA:
        if (m->lsn != 0)
            r->lsn = m->lsn;
        if (pgoutput_read(&p, m->p, m->len, e) && take_pgoutput(r, &p, e))
            return true;
        if (e->code != ERR_ANSWER)
            return false;
        e->code = ERR_INTERNAL; /* as in stream.c */
        return err_prefix(e, "the log at %s", lsn_write(r->lsn, text));
    case REPLICATION_KEEPALIVE:
        r->is_over = !r->is_in_transaction && lsn_reaches(m->end, r->until);
        break;
    case REPLICATION_NOTHING:
        break;
    }
    return true;
}

static bool read_all(struct reader *r, struct replication *replication, struct err *e)
{
    const uint64_t from = r->source->position.logical.lsn;
    struct replication_message m;
    int64_t asked_ms = clock_mono_ms();

    while (!r->is_over) {
        if (!replication_next(replication, asked_ms + ASK_MS, &m, e) || !take(r, &m, e))
            return false;
        if (clock_mono_ms() < asked_ms + ASK_MS)
            continue;
        asked_ms = clock_mono_ms();
        if (!replication_confirm(replication, from, true, e))
            return false;
    }
    return true;
}

/* A copy of the slot, of which nobody else knows, where the source begins. */
static struct replication *start(const struct source *s, struct conn *conn, struct err *e)
{
    struct replication *r = slot_holder_open(s->config, conn, NULL, e);
    struct buf publication;
    char name[80];
    bool ok;

    snprintf(name, sizeof name, "%.50s_%zu", s->config->slot, s->number);
    buf_init(&publication, BUF_SQL_MAX);
    sql_put_ident(&publication, s->config->publication);
    ok = r != NULL && (buf_ok(&publication) || err_memory(e)) &&
         replication_copy_slot(r, s->config->slot, name, e) &&
         replication_start(r, &(struct replication_request){ name, s->position.logical.lsn,
                           publication.data, s->config->wants_messages }, e);
    buf_fini(&publication);
    if (ok)
        return r;
    replication_close(r, NULL);
    slot_errors_explain(s->config, conn, e);
    return NULL;
}

bool log_keys_read(struct log_keys *k, const struct source *s, uint64_t until, struct conn *conn,
                   struct err *e)
{
    struct reader r = { .keys = k, .source = s, .until = until,
                        .place = { .before = s->position.logical.inside } };
    struct replication *replication;
    bool ok;

    buf_init(&k->key, SIZE_MAX / 2);
    replication = start(s, conn, e);
    if (replication == NULL)
        return false;
    buf_init(&r.line, SIZE_MAX / 2);
    ok = read_all(&r, replication, e);
    if (!ok && e->code == ERR_DECODING)
        ok = k->is_full = true;
    replication_close(replication, NULL);
    stream_table_fini_all(&r.tables);
    buf_fini(&r.line);
    return ok;
}

const struct log_keys_item *log_keys_find_row(struct log_keys *k, const struct source *s,
                                              const char **p, const char *end, bool *ok)
{
    uint64_t hash;

    *ok = !source_has_hashes(s) || key_census_read_hash(p, end, &hash);
    return *ok ? log_keys_find(k, s->facts.rowtype, *p, (size_t)(end - *p), ok) : NULL;
}
