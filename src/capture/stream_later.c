/* stream_later.c -- what the log does to rows of a source later on.
 * SPDX-License-Identifier: MIT */
#include "capture/stream_later.h"

#include "pg/pgoutput.h"

struct look {
    const struct stream_later *l;
    struct buf line;
    bool is_lost; /* there is something that cannot be told of */
};

static bool heed(struct look *k, bool is_end, struct err *e)
{
    return (buf_ok(&k->line) || err_memory(e)) &&
           complete_fill_heed(k->l->fill, k->line.data, k->line.len, is_end, e);
}

static bool take_row(struct look *k, const struct pgoutput_message *m, struct err *e)
{
    const struct stream_later *l = k->l;
    const struct pgoutput_row *row = &m->row;
    const struct stream_table *t = stream_table_known(l->tables, row->relation, l->i, l->source);
    bool is_other_key = m->kind == PGOUTPUT_INSERT, lacks;
    struct err ignored;

    k->is_lost = t == NULL ||
                 (m->kind != PGOUTPUT_INSERT && !stream_table_check_key(t, &ignored));
    if (k->is_lost)
        return true;
    if (m->kind == PGOUTPUT_DELETE)
        return stream_table_put_key(t, &row->old, &k->line, e) && heed(k, true, e);
    if (row->has_old != PGOUTPUT_NO_OLD && !stream_table_is_other_key(t, row, &is_other_key, e))
        return false;
    if (row->has_old != PGOUTPUT_NO_OLD && is_other_key &&
        !(stream_table_put_key(t, &row->old, &k->line, e) && heed(k, true, e)))
        return false;
    return stream_table_put_row(t, row, &k->line, &lacks, e) && heed(k, is_other_key, e);
}

/* A stream_ahead_visit. */
static bool visit(void *arg, const struct replication_message *message, struct err *e)
{
    struct look *k = arg;
    const struct source *s = k->l->source;
    struct pgoutput_message m;
    struct err ignored;

    if (k->is_lost || !pgoutput_read(&m, message->p, message->len, &ignored)) {
        k->is_lost = true; /* the stream says why, when it takes that */
        return true;
    }
    switch (m.kind) {
    case PGOUTPUT_INSERT:
    case PGOUTPUT_UPDATE:
    case PGOUTPUT_DELETE:
        return !stream_table_is_of(s, m.row.relation) || take_row(k, &m, e);
    case PGOUTPUT_RELATION: /* rows have other columns from here on */
        k->is_lost = stream_table_is_of(s, m.relation.oid);
        break;
    case PGOUTPUT_TRUNCATE:
        for (size_t i = 0; i < m.truncate.n; i++)
            k->is_lost = k->is_lost || stream_table_is_of(s, pgoutput_truncated(&m.truncate, i));
        break;
    case PGOUTPUT_BEGIN:
    case PGOUTPUT_COMMIT:
    case PGOUTPUT_ORIGIN:
    case PGOUTPUT_TYPE:
    case PGOUTPUT_MESSAGE:
        break;
    }
    return true;
}

bool stream_later_look(const struct stream_later *l, uint64_t lsn, bool *is_all, struct err *e)
{
    struct look k = { .l = l };
    bool ok = stream_ahead_read(l->ahead, l->replication, lsn, is_all, e);

    buf_init(&k.line, SIZE_MAX / 2);
    ok = ok && (!*is_all || stream_ahead_each(l->ahead, visit, &k, e));
    *is_all = *is_all && !k.is_lost;
    buf_fini(&k.line);
    return ok;
}
