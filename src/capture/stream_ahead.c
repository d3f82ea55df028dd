/* stream_ahead.c -- what the server has sent beyond what the stream has taken.
 * SPDX-License-Identifier: MIT */
#include "capture/stream_ahead.h"

#include "base/clock.h"
#include "pg/pgoutput.h"

#include <stdlib.h>
#include <string.h>

#define MOST_BYTES ((size_t)8 << 20) /* twice what a batch has at most */
#define PATIENCE_MS 300 /* what is in the log, but not on disk, is not sent: a commit that does not
                         * wait for that is written within some 200 ms */
#define ASK_MS 10       /* a server that is asked says how far it has come */

struct stream_ahead_item {
    struct stream_ahead_item *next;
    struct replication_message m;
    char bytes[];
};

static void drop_taken(struct stream_ahead *a)
{
    free(a->taken);
    a->taken = NULL;
}

void stream_ahead_fini(struct stream_ahead *a)
{
    struct stream_ahead_item *next;

    drop_taken(a);
    for (struct stream_ahead_item *item = a->first; item != NULL; item = next) {
        next = item->next;
        free(item);
    }
    *a = (struct stream_ahead){ 0 };
}

bool stream_ahead_next(struct stream_ahead *a, struct replication *r, int64_t deadline_ms,
                       struct replication_message *m, struct err *e)
{
    struct stream_ahead_item *item = a->first;

    drop_taken(a);
    if (item == NULL)
        return replication_next(r, deadline_ms, m, e);
    a->first = item->next;
    if (a->first == NULL)
        a->last = NULL;
    a->n_bytes -= item->m.len;
    a->taken = item;
    *m = item->m;
    return true;
}

static bool keep(struct stream_ahead *a, const struct replication_message *m, struct err *e)
{
    struct stream_ahead_item *item = malloc(sizeof *item + m->len);

    if (item == NULL)
        return err_memory(e);
    item->next = NULL;
    item->m = *m;
    if (m->len > 0)
        memcpy(item->bytes, m->p, m->len);
    item->m.p = item->bytes;
    *(a->last != NULL ? &a->last->next : &a->first) = item;
    a->last = item;
    a->n_bytes += m->len;
    return true;
}

/* Transactions come in the order of their commits, each as a whole. (What cannot be read is told of
 * when the stream takes it.) */
static void note_passed(struct stream_ahead *a, const struct replication_message *m)
{
    struct pgoutput_message p = { .kind = PGOUTPUT_ORIGIN };
    struct err ignored;
    uint64_t lsn;

    if (m->kind == REPLICATION_DATA && !pgoutput_read(&p, m->p, m->len, &ignored))
        return;
    lsn = m->kind == REPLICATION_KEEPALIVE ? m->end
          : p.kind == PGOUTPUT_BEGIN       ? p.begin.commit_lsn
          : p.kind == PGOUTPUT_COMMIT      ? p.commit.end_lsn : 0;
    if (lsn > a->passed)
        a->passed = lsn;
}

bool stream_ahead_read(struct stream_ahead *a, struct replication *r, uint64_t lsn,
                       bool *is_there, struct err *e)
{
    int64_t end_ms = clock_mono_ms() + PATIENCE_MS, now;
    struct replication_message m = { .kind = REPLICATION_NOTHING };

    while (a->passed < lsn && a->n_bytes < MOST_BYTES && (now = clock_mono_ms()) < end_ms) {
        if (m.kind == REPLICATION_NOTHING && !replication_ask(r, e))
            return false;
        if (!replication_next(r, now + ASK_MS, &m, e))
            return false;
        if (m.kind != REPLICATION_NOTHING && !keep(a, &m, e))
            return false;
        note_passed(a, &m);
    }
    *is_there = a->passed >= lsn;
    return true;
}

bool stream_ahead_each(const struct stream_ahead *a, stream_ahead_visit *visit, void *arg,
                       struct err *e)
{
    for (const struct stream_ahead_item *item = a->first; item != NULL; item = item->next)
        if (item->m.kind == REPLICATION_DATA && !visit(arg, &item->m, e))
            return false;
    return true;
}
