/* complete.c -- what rows that came by the log lack, from the server.
 * SPDX-License-Identifier: MIT */
#include "capture/complete.h"

#include "base/array.h"
#include "capture/complete_ask.h"
#include "capture/message.h"

#include <stdlib.h>
#include <string.h>

#define DUE_BYTES ((size_t)1 << 20)
#define DUE_ROWS 4096

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
           (ct->is_asked && ct->serial != t->serial);
}

bool complete_begin(struct complete *c, size_t i, struct source *s, const struct stream_table *t,
                    struct conn *conn, struct err *e)
{
    return complete_table_begin(&c->tables[i], s, t, conn, e);
}

bool complete_waits(const struct complete *c, size_t i)
{
    return c->tables[i].is_asked;
}

bool complete_add(struct complete *c, size_t i, const struct pgoutput_tuple *now,
                  const struct pgoutput_tuple *old, struct err *e)
{
    return complete_table_add(&c->tables[i], now, old, e);
}

struct queue_list *complete_held(struct complete *c)
{
    return &c->held;
}

static bool is_due(const struct complete *c)
{
    size_t rows = 0, bytes = 0;

    for (size_t i = 0; i < c->n; i++) {
        rows += c->tables[i].n_wholes;
        bytes += c->tables[i].n_bytes;
    }
    return rows == 0 || rows >= DUE_ROWS || bytes >= DUE_BYTES;
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
    row.op = op;
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
    size_t n = 0;
    struct buf bytes;

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

static void give_news(struct source *s, struct queue_list *out)
{
    struct message *news;

    while ((news = source_take_message(s)) != NULL)
        queue_list_push(out, &news->item);
}

static bool flush(struct complete *c, struct conn *conn, struct err *e)
{
    bool ok = true;

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
    while (ok && !queue_list_is_empty(&c->held))
        queue_list_push(&c->done, queue_list_take(&c->held));
    return ok;
}

bool complete_flush(struct complete *c, bool is_now, struct conn *conn, struct err *e)
{
    if (queue_list_is_empty(&c->held) || !(is_now || c->has_failed || is_due(c)))
        return true;
    c->has_failed = !flush(c, conn, e);
    return !c->has_failed;
}

void complete_release(struct complete *c, struct queue_list *out)
{
    while (!queue_list_is_empty(&c->done))
        queue_list_push(out, queue_list_take(&c->done));
}
