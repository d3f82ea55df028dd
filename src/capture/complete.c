/* complete.c -- what rows that came by the log lack, from the server.
 * SPDX-License-Identifier: MIT */
#include "capture/complete.h"

#include "base/array.h"
#include "capture/complete_ask.h"
#include "capture/complete_fill.h"
#include "capture/message.h"

#include <stdlib.h>
#include <string.h>

#define DUE_BYTES ((size_t)1 << 20)
#define DUE_ROWS 4096
/* of rows that are looked for: those of one transaction are to be there together */
#define LACKING_BYTES ((size_t)4 << 20)
#define LACKING_ROWS 10000

struct complete {
    struct complete_table *tables; /* by source */
    size_t n;
    struct queue_list held, done; /* what is complete is in <done> */
    bool has_failed;              /* it was due, and is yet */
};

struct complete *complete_new(size_t n_sources)
{
    struct complete *c = calloc(1, sizeof *c);

    if (c == NULL || (c->tables = calloc(n_sources + 1, sizeof *c->tables)) == NULL) {
        free(c);
        return NULL;
    }
    c->n = n_sources;
    for (size_t i = 0; i < n_sources; i++)
        complete_table_init(&c->tables[i]);
    return c;
}

static void drop_all(struct queue_list *list)
{
    while (!queue_list_is_empty(list))
        message_free(message_of(queue_list_take(list)));
}

void complete_free(struct complete *c)
{
    if (c == NULL)
        return;
    drop_all(&c->held);
    drop_all(&c->done);
    for (size_t i = 0; i < c->n; i++)
        complete_table_fini(&c->tables[i]);
    free(c->tables);
    free(c);
}

bool complete_is_other(const struct complete *c, size_t i, const struct source *s,
                       const struct stream_table *t)
{
    const struct complete_table *ct = &c->tables[i];

    return ct->source != s || ct->rowtype != s->facts.rowtype ||
           ct->wants_hash != source_keeps_by_log(s) ||
           (ct->is_asked && ct->serial != t->serial) || t->serial > ct->newest;
}

bool complete_begin(struct complete *c, size_t i, struct source *s, const struct stream_table *t,
                    struct conn *conn, struct err *e)
{
    return complete_table_begin(&c->tables[i], s, t, conn, e);
}

bool complete_computes(const struct source *s)
{
    const struct rowtype *t = s->facts.rowtype;

    for (size_t i = 0; i < t->n_columns; i++)
        if (t->columns[i].expression != NULL)
            return true;
    return s->config->where != NULL;
}

bool complete_waits(const struct complete *c, size_t i)
{
    return c->tables[i].is_asked;
}

bool complete_add(struct complete *c, size_t i, const struct pgoutput_tuple *now,
                  const struct pgoutput_tuple *old, bool lacks, struct err *e)
{
    return complete_table_add(&c->tables[i], now, old, lacks, e);
}

struct queue_list *complete_held(struct complete *c)
{
    return &c->held;
}

static bool waits(const struct complete *c)
{
    for (size_t i = 0; i < c->n; i++)
        if (c->tables[i].n_wholes > 0 || c->tables[i].is_lacking)
            return true;
    return false;
}

static bool is_much(const struct complete *c, const struct complete_table *ct)
{
    size_t bytes = 0;

    for (struct queue_item *item = c->held.first; item != NULL; item = item->next)
        if (message_of(item)->kind == MESSAGE_ROWS)
            bytes += message_of(item)->chunk.n_bytes;
    return ct->n_lacking >= LACKING_ROWS || bytes >= LACKING_BYTES;
}

bool complete_is_due(const struct complete *c)
{
    size_t rows = 0, bytes = 0;

    for (size_t i = 0; i < c->n; i++) {
        rows += c->tables[i].n_wholes;
        bytes += c->tables[i].n_bytes;
        if (c->tables[i].is_lacking && is_much(c, &c->tables[i]))
            return true;
    }
    return c->has_failed || rows >= DUE_ROWS || bytes >= DUE_BYTES;
}

/* ---- rows ---- */

/* What the row is for those who see only rows that pass; false: nothing. <op>: as the log says. */
static bool comes(const struct complete_table_unit *now, const struct complete_table_unit *old,
                  enum op *op)
{
    bool was_there = old == NULL || old->passes;

    switch (*op) {
    case OP_INSERT:
        return now->passes;
    case OP_UPDATE:
        if (!now->passes)
            *op = OP_DELETE;
        else if (old == NULL)
            *op = OP_UPSERT;
        else if (!was_there)
            *op = OP_INSERT;
        return now->passes || was_there;
    case OP_DELETE:
    case OP_READ:
    case OP_UPSERT:
    case OP_COUNT:
        break;
    }
    return was_there;
}

static bool is_key(const struct rowtype *t, size_t column)
{
    for (size_t k = 0; k < t->n_key; k++)
        if (t->key[k] == column)
            return true;
    return false;
}

/* Appends the fields of a line, those that were asked for as they are now. */
static void put_line(const struct complete_table_unit *u, const struct rowtype *t, bool is_key_only,
                     struct buf *bytes)
{
    const char *p = u->chunk->bytes + u->start, *end = p + u->len;

    for (size_t i = 0; i < t->n_columns; i++) {
        const char *tab = memchr(p, '\t', (size_t)(end - p));
        const struct complete_table_value *v = u->values != NULL ? &u->values[i] : NULL;

        if (tab == NULL)
            tab = end;
        if (i > 0)
            buf_putc(bytes, '\t');
        if (is_key_only && !is_key(t, i))
            buf_puts(bytes, "\\N");
        else if (v != NULL && v->is_set)
            buf_add(bytes, v->is_null ? "\\N" : u->answers->data + v->start,
                    v->is_null ? 2 : v->len);
        else
            buf_add(bytes, p, (size_t)(tab - p));
        p = tab < end ? tab + 1 : end;
    }
}

/* Writes the row that has come to <bytes>; its place in the chunk is <to>. */
static void put_row(struct chunk *chunk, size_t from, size_t to,
                    const struct complete_table_unit *now, const struct complete_table_unit *old,
                    enum op op, struct buf *bytes)
{
    const struct rowtype *t = chunk->rowtype;
    struct chunk_row row = chunk->rows[from];
    bool is_lost = op == OP_DELETE && row.op != OP_DELETE;

    row.is_key_only = row.is_key_only || is_lost;
    row.has_unknown = row.has_unknown && !row.is_key_only;
    row.op = op;
    if (chunk->has_hashes)
        buf_add(bytes, &now->hash, sizeof now->hash);
    row.start = bytes->len;
    put_line(now, t, row.is_key_only, bytes);
    row.len = (uint32_t)(bytes->len - row.start);
    if (op != OP_DELETE && buf_ok(bytes) &&
        rowtype_is_soft_deleted(t, bytes->data + row.start, row.len))
        row.op = OP_DELETE;
    chunk->rows[to] = row;
    if (chunk->sides == NULL)
        return;
    chunk->sides[to] = chunk->sides[from];
    if (chunk->sides[to].old_len == 0 || old == NULL || op == OP_INSERT) {
        chunk->sides[to].old_len = 0;
        return;
    }
    chunk->sides[to].old_start = bytes->len;
    put_line(old, t, false, bytes);
    chunk->sides[to].old_len = (uint32_t)(bytes->len - chunk->sides[to].old_start);
}

/* The units of a chunk's rows are the next ones of the table. */
static bool apply(struct complete_table *ct, struct chunk *chunk, size_t *next, struct err *e)
{
    const struct source *s = ct->source;
    size_t n = 0;
    struct buf bytes;

    chunk->has_hashes = ct->wants_hash;
    chunk->may_be_altered = s->log_altered == 0 || s->log_altered >= s->position.horizon.floor;
    buf_init(&bytes, SIZE_MAX / 2);
    for (size_t i = 0; i < chunk->n_rows; i++) {
        const struct complete_table_unit *now = &ct->units[(*next)++];
        const struct complete_table_unit *old = now->has_old ? &ct->units[(*next)++] : NULL;
        enum op op = chunk->rows[i].op;

        if (!ct->has_condition || comes(now, old != NULL && old->has_row ? old : NULL, &op))
            put_row(chunk, i, n++, now, old, op, &bytes);
    }
    if (!buf_ok(&bytes)) {
        buf_fini(&bytes);
        return err_memory(e);
    }
    chunk->n_rows = n;
    free(chunk->bytes);
    chunk->n_bytes = bytes.len;
    chunk->cap_bytes = bytes.cap;
    chunk->bytes = buf_take(&bytes);
    return true;
}

/* ---- chunks ---- */

static struct chunk *chunk_of(const struct complete_table *ct, struct queue_item *item)
{
    struct message *m = message_of(item);

    return m->kind == MESSAGE_ROWS && m->source == ct->source->number && m->chunk.n_rows > 0
               ? &m->chunk : NULL;
}

/* Asks about all rows of the source that wait. */
static bool ask(struct complete_table *ct, const struct queue_list *held, struct conn *conn,
                struct err *e)
{
    struct chunk *chunk;

    for (struct queue_item *item = held->first; item != NULL; item = item->next)
        if ((chunk = chunk_of(ct, item)) != NULL && !complete_table_put(ct, chunk, e))
            return false;
    return complete_ask(ct, conn, e);
}

/* What was answered becomes part of the chunks. */
static bool take(struct complete_table *ct, const struct queue_list *held, struct err *e)
{
    size_t n = 0;
    struct chunk *chunk;

    for (struct queue_item *item = held->first; item != NULL; item = item->next)
        if ((chunk = chunk_of(ct, item)) != NULL && !apply(ct, chunk, &n, e))
            return false;
    complete_table_take(ct);
    return true;
}

/* Looks for values that updates left as they were. */
static bool fill(struct complete_table *ct, const struct queue_list *held,
                 const struct complete_flushing *how, struct conn *conn, struct err *e)
{
    struct complete_fill *f;
    struct chunk *chunk;
    bool ok = true;

    if (ct->source->config->toast == CONFIG_TOAST_LEAVE)
        return true;
    if (ct->plan.rowtype == NULL && !complete_table_plan(ct, conn, e))
        return false;
    f = complete_fill_new(ct, how->open_xid);
    if (f == NULL)
        return err_memory(e);
    for (struct queue_item *item = held->first; item != NULL && ok; item = item->next)
        if ((chunk = chunk_of(ct, item)) != NULL)
            ok = complete_fill_add(f, chunk, e);
    ok = ok && complete_fill_find(f, conn, how->ahead, e);
    for (struct queue_item *item = held->first; item != NULL && ok; item = item->next)
        if ((chunk = chunk_of(ct, item)) != NULL)
            ok = complete_fill_put(f, chunk, e);
    complete_fill_free(f);
    return ok;
}

static void give_news(struct source *s, struct queue_list *out)
{
    struct message *news;

    while ((news = source_take_message(s)) != NULL)
        queue_list_push(out, &news->item);
}

static bool flush(struct complete *c, const struct complete_flushing *how, struct conn *conn,
                  struct err *e)
{
    bool ok = true;

    for (size_t i = 0; i < c->n && ok; i++)
        ok = !c->tables[i].is_lacking || fill(&c->tables[i], &c->held, how, conn, e);
    for (size_t i = 0; i < c->n && ok; i++)
        ok = c->tables[i].n_wholes == 0 || ask(&c->tables[i], &c->held, conn, e);
    for (size_t i = 0; i < c->n && ok; i++) {
        if (c->tables[i].n_wholes == 0)
            continue;
        ok = take(&c->tables[i], &c->held, e);
        give_news(c->tables[i].source, &c->done);
    }
    for (size_t i = 0; i < c->n && !ok; i++)
        complete_table_forget_units(&c->tables[i]);
    return ok;
}

static void let_go(struct complete *c)
{
    while (!queue_list_is_empty(&c->held))
        queue_list_push(&c->done, queue_list_take(&c->held));
    for (size_t i = 0; i < c->n; i++) {
        c->tables[i].is_lacking = false;
        c->tables[i].n_lacking = 0;
    }
}

bool complete_flush(struct complete *c, const struct complete_flushing *how, struct conn *conn,
                    struct err *e)
{
    c->has_failed = waits(c) && !flush(c, how, conn, e);
    if (!c->has_failed)
        let_go(c);
    return !c->has_failed;
}

void complete_release(struct complete *c, struct queue_list *out)
{
    if (!waits(c))
        let_go(c);
    while (!queue_list_is_empty(&c->done))
        queue_list_push(out, queue_list_take(&c->done));
}
