/* delivery.c -- where the delivery of one source is.
 * SPDX-License-Identifier: MIT */
#include "host/delivery.h"

#include "capture/position_text.h"

#include <stdlib.h>

/* Where the batch in hand may stop. */
enum stop {
    STOP_NOWHERE,
    STOP_BEFORE_ROWS, /* only deletes were delivered: the position is what it was */
    STOP_IN_POLL,     /* after the row with this xid and key, or fingerprint */
    STOP_IN_RANGE,    /* after the rows with these marks */
};

struct last {
    enum stop stop;
    uint64_t change;    /* the number of the last change, where they are recorded */
    uint64_t xid;       /* of the last row of a poll, as the next four */
    enum row_order order;
    int64_t fingerprint;
    uint64_t nth, scope;
    bool is_tombstone;  /* that row is one */
    bool is_recheck;    /* the poll is one that looks at all rows, see increment.h */
    uint32_t leaf, end; /* of the range */
    struct buf keys;    /* that row's key; the marks of all rows of the range, newlines after */
};

struct delivery {
    size_t source;
    struct seq *seq;          /* borrowed */
    bool is_restored, has_kept;
    struct progress progress;
    struct lag lag;
    /* the position */
    struct position position; /* of the newest batch that is over */
    bool has_position, is_unsaved;
    bool is_reading;          /* a reading of all rows is under way */
    /* the batch in hand */
    uint64_t batch, count;
    bool begins_with_deletes; /* and not with its rows; or, by the log, has some among these */
    struct xidset xids;       /* those delivered of a poll */
    struct last last;         /* the last change that was delivered */
    size_t rows_done;         /* of the chunk that is delivered again */
    bool is_saving;
    /* of all sources that are read together: <leader> has what is true of them */
    struct delivery *leader;  /* borrowed; itself, if it is alone */
    bool is_joint;            /* all their batches are common, */
    bool is_by_log;           /* or those of the log */
    bool is_amid;             /* some of their batch was delivered, and it is not over */
    bool is_eager;            /* part of it must be saved soon: not only lazy positions came */
    /* deletes */
    struct diff *diff;        /* owned, or NULL */
    bool is_handing_over;     /* <diff> is kept until triggers or the log tell the deletes; by the
                               * log, if that does not have old rows, also then */
    bool may_keep_by_log;     /* the latter */
    struct chunk *deletes;    /* in hand, or NULL; <deletes_done> of them were delivered */
    size_t deletes_done;
    /* of all batches */
    uint64_t n_rows, n_bytes;
    /* messages */
    bool is_again;
    struct queue_list parked;
};

/* ---- birth and death ---- */

struct delivery *delivery_new(size_t number, struct seq *seq)
{
    struct delivery *d = calloc(1, sizeof *d);

    if (d == NULL)
        return NULL;
    d->source = number;
    d->seq = seq;
    d->leader = d;
    buf_init(&d->last.keys, SIZE_MAX / 2);
    return d;
}

void delivery_free(struct delivery *d)
{
    if (d == NULL)
        return;
    while (!queue_list_is_empty(&d->parked))
        message_free(message_of(queue_list_take(&d->parked)));
    position_fini(&d->position);
    xidset_fini(&d->xids);
    lag_fini(&d->lag);
    buf_fini(&d->last.keys);
    diff_close(d->diff);
    chunk_free(d->deletes);
    free(d);
}

bool delivery_restore(struct delivery *d, struct store *store, const struct config *config,
                      const char *name, struct err *e)
{
    d->is_restored = true;
    if (store == NULL)
        return true;
    if (!store_load(store, name, &d->position, &d->has_position, e))
        return false;
    d->has_kept = d->has_position;
    d->is_handing_over = !config->deletes && config_tells_deletes(config) &&
                         (d->has_position ? d->position.is_learned : config->counts_first);
    d->may_keep_by_log = config->capture == CONFIG_BY_LOGICAL && config->keeps_old;
    if (!config->deletes && !d->is_handing_over)
        return true;
    d->diff = diff_open(store, config, name, delivery_position(d), e);
    return d->diff != NULL;
}

bool delivery_is_restored(const struct delivery *d)
{
    return d->is_restored;
}

bool delivery_has_kept(const struct delivery *d)
{
    return d->has_kept;
}

void delivery_join(struct delivery *d, struct delivery *leader)
{
    d->leader = leader;
    d->is_joint = true;
}

void delivery_follow(struct delivery *d, struct delivery *leader)
{
    d->leader = leader;
    d->is_by_log = true;
}

bool delivery_is_with(const struct delivery *d, const struct delivery *other)
{
    return d->leader == other->leader;
}

size_t delivery_source(const struct delivery *d)
{
    return d->source;
}

struct lag *delivery_lag(struct delivery *d)
{
    return &d->lag;
}

struct progress *delivery_progress(struct delivery *d)
{
    return &d->progress;
}

/* ---- where it is ---- */

const struct position *delivery_position(const struct delivery *d)
{
    return d->has_position ? &d->position : NULL;
}

bool delivery_is_unsaved(const struct delivery *d)
{
    return d->is_unsaved;
}

bool delivery_begin_reading(struct delivery *d, struct err *e)
{
    d->is_reading = true;
    return !d->is_handing_over || !d->may_keep_by_log || diff_begin_anew(d->diff, e);
}

bool delivery_ends_reading(struct delivery *d)
{
    if (!d->is_reading || !d->has_position || d->position.phase != POSITION_POLL)
        return false;
    d->is_reading = false;
    return true;
}

void delivery_set_saved(struct delivery *d)
{
    d->is_unsaved = false;
}

uint64_t delivery_batch(const struct delivery *d)
{
    return d->batch;
}

uint64_t delivery_count(const struct delivery *d)
{
    return d->count;
}

void delivery_totals(const struct delivery *d, uint64_t *rows, uint64_t *bytes)
{
    *rows = d->n_rows;
    *bytes = d->n_bytes;
}

bool delivery_is_begun(const struct delivery *d)
{
    return d->is_joint ? d->leader->is_amid : d->count > 0 || (d->is_by_log && d->leader->is_amid);
}

bool delivery_is_whole(const struct delivery *d)
{
    return d->is_joint;
}

bool delivery_may_stop(const struct delivery *d)
{
    return d->last.stop != STOP_NOWHERE;
}

bool delivery_is_saving(const struct delivery *d)
{
    return d->is_saving;
}

void delivery_set_saving(struct delivery *d, bool is_saving)
{
    d->is_saving = is_saving;
}

/* Moves <p>, a copy of the position or itself, to where the batch may stop. */
static bool advance_to_stop(const struct delivery *d, struct position *p)
{
    const struct last *last = &d->last;

    if (last->stop != STOP_NOWHERE && d->diff != NULL)
        diff_set_position(d->diff, p, last->change);
    switch (last->stop) {
    case STOP_NOWHERE:
    case STOP_BEFORE_ROWS:
        break;
    case STOP_IN_RANGE:
        return position_add_done(p, last->leaf, last->end, last->keys.data, last->keys.len);
    case STOP_IN_POLL:
        return position_end_early(p, &d->xids,
                                  &(struct position_last){ .xid = last->xid,
                                                           .is_tombstone = last->is_tombstone,
                                                           .is_recheck = last->is_recheck,
                                                           .order = last->order,
                                                           .key = last->keys.data,
                                                           .len = last->keys.len,
                                                           .fingerprint = last->fingerprint,
                                                           .n = last->nth,
                                                           .scope = last->scope });
    }
    return true;
}

bool delivery_stop(struct delivery *d)
{
    if (!advance_to_stop(d, &d->position))
        return false;
    d->is_unsaved = true;
    d->count = 0;
    return true;
}

bool delivery_write(const struct delivery *d, const char *name, struct delivery_moment *moment)
{
    bool is_amid = d->count > 0;
    struct position p = { 0 };
    struct buf text;
    bool ok = true;

    *moment = (struct delivery_moment){ .is_known = !delivery_is_begun(d) ||
                                                    delivery_may_stop(d) };
    if (!moment->is_known || (!is_amid && !d->is_unsaved))
        return true;
    buf_init(&text, SIZE_MAX / 2);
    if (is_amid)
        ok = position_copy(&p, &d->position) && advance_to_stop(d, &p);
    if (ok)
        position_text_write(is_amid ? &p : &d->position, name, &text);
    moment->last_change = is_amid ? p.last_change : d->position.last_change;
    position_fini(&p);
    moment->text = ok ? buf_take(&text) : NULL;
    buf_fini(&text);
    return moment->text != NULL;
}

/* ---- the batch ---- */

/* Its first change is to be delivered. If another one is in hand, the reader lost its connection in
 * the middle of that and has begun again, where that one was; rows come from the lowest xid. */
static bool begin(struct delivery *d, bool is_log)
{
    d->batch++;
    if (d->is_joint || is_log)
        d->leader->is_amid = true;
    if (d->count == 0)
        return true;
    if (!advance_to_stop(d, &d->position))
        return false;
    d->last.stop = STOP_NOWHERE;
    xidset_fini(&d->xids);
    return true;
}

/* Rows of a chunk are about to be delivered; the first one is the oldest. */
static void tell_lag(struct delivery *d, const struct chunk *c)
{
    if (c->n_rows > 0)
        lag_deliver(&d->lag, c->rows[0].log.us != 0 ? c->rows[0].log.us : c->read_us);
}

/* A chunk that is delivered again keeps its numbers. */
static bool number_rows(struct delivery *d, struct chunk *c, struct err *e)
{
    return c->seq != 0 || c->n_rows == 0 ||
           seq_take(d->seq, (uint64_t)clock_wall_us(), c->n_rows, &c->seq, e);
}

bool delivery_begin_rows(struct delivery *d, struct chunk *c, size_t *from, struct err *e)
{
    *from = d->rows_done;
    if (*from == 0)
        d->n_bytes += c->n_bytes;
    tell_lag(d, c);
    if (c->begins && *from == 0 && !d->begins_with_deletes && !begin(d, c->is_log))
        return err_memory(e);
    return (d->diff == NULL || diff_record(d->diff, c, e)) && number_rows(d, c, e);
}

/* Counts rows <from> to <done>. */
static bool count_rows(struct delivery *d, const struct chunk *c, size_t from, size_t done)
{
    uint64_t last = 0;

    d->count += done - from;
    d->n_rows += done - from;
    if (!c->is_ordered)
        return true;
    for (size_t i = from; i < done; i++)
        if (c->rows[i].xid != last && !xidset_add(&d->xids, last = c->rows[i].xid))
            return false;
    return true;
}

/* Keeps the marks of rows <from> to <done> of a range. */
static bool keep_marks(struct delivery *d, const struct chunk *c, size_t from, size_t done)
{
    struct buf *keys = &d->last.keys;

    for (size_t i = from; i < done; i++) {
        if (!chunk_row_mark(c, &c->rows[i], keys))
            return false;
        buf_putc(keys, '\n');
    }
    return buf_ok(keys);
}

/* Keeps what tells <row>, of a poll, from the other rows of its xid. */
static bool keep_last(struct delivery *d, const struct chunk *c, const struct chunk_row *row)
{
    struct last *last = &d->last;

    last->xid = row->xid;
    last->is_tombstone = row->is_key_only;
    last->order = c->rowtype->order;
    last->fingerprint = row->fingerprint;
    last->nth = row->nth;
    last->scope = c->rowtype->scope;
    buf_clear(&last->keys);
    return last->order == ROW_ORDER_BY_FINGERPRINT || chunk_row_key(c, row, &last->keys);
}

/* Rows <from> to <done> were delivered, and more is to come. */
static bool move_stop(struct delivery *d, const struct chunk *c, size_t from, size_t done)
{
    struct last *last = &d->last;

    if (done == from && last->stop == STOP_BEFORE_ROWS)
        return true;
    last->stop = !d->has_position || d->is_joint ? STOP_NOWHERE : c->is_snapshot ? STOP_IN_RANGE :
                 c->is_ordered ? STOP_IN_POLL : STOP_NOWHERE;
    last->is_recheck = c->is_recheck;
    if (last->stop == STOP_NOWHERE || done == from)
        return true;
    last->leaf = c->leaf;
    last->end = c->end;
    if (c->sides != NULL)
        last->change = c->sides[done - 1].change;
    return c->is_snapshot ? keep_marks(d, c, from, done) : keep_last(d, c, &c->rows[done - 1]);
}

void delivery_fail(struct delivery *d, const struct chunk *c, size_t failed)
{
    struct err e;

    if (d->diff != NULL && c->sides != NULL && failed < c->n_rows &&
        !diff_undo_after(d->diff, c->sides[failed].change, &e)) {
        /* they are in doubt at the next start */
    }
}

bool delivery_finish(struct delivery *d, struct err *e)
{
    return d->diff == NULL || ((!d->has_position ||
                                diff_undo_after(d->diff, d->position.last_change, e)) &&
                               diff_save_index(d->diff, e));
}

bool delivery_add_rows(struct delivery *d, const struct chunk *c, size_t done, bool is_again)
{
    size_t from = d->rows_done;

    d->rows_done = is_again ? done : 0;
    return count_rows(d, c, from, done) && move_stop(d, c, from, done);
}

bool delivery_add_last_rows(struct delivery *d, const struct chunk *c)
{
    size_t from = d->rows_done;

    d->rows_done = 0;
    return count_rows(d, c, from, c->n_rows);
}

void delivery_end(struct delivery *d, struct chunk *c, bool *is_over, bool *is_lazy)
{
    struct delivery *leader = d->leader;
    bool is_eager = !c->is_lazy || d->count > 0, is_common = d->is_joint || c->is_log;
    bool keeps_by_log;

    *is_over = c->ends_batch || !is_common;
    if (is_common)
        leader->is_eager = is_eager = leader->is_eager || is_eager;
    *is_lazy = !is_eager;
    if (*is_over && is_common)
        leader->is_amid = leader->is_eager = false;
    position_fini(&d->position);
    d->position = *c->position;
    free(c->position);
    c->position = NULL;
    d->has_position = d->is_unsaved = true;
    keeps_by_log = d->position.is_learned && d->position.logical.lsn != 0;
    d->position.is_learned = d->position.is_partial = false;
    if (d->diff != NULL)
        diff_end_batch(d->diff, c->is_all, &d->position);
    if (d->is_handing_over && !keeps_by_log &&
        (d->position.stamps.is_used || d->position.logical.lsn != 0)) {
        d->is_handing_over = d->position.is_learned = d->position.is_partial = false;
        diff_close(d->diff);
        d->diff = NULL;
    }
    d->begins_with_deletes = false;
    d->last.stop = STOP_NOWHERE;
    xidset_fini(&d->xids);
    d->count = 0;
    buf_clear(&d->last.keys);
}

/* ---- deletes ---- */

struct diff *delivery_diff(const struct delivery *d)
{
    return d->diff;
}

bool delivery_next_deletes(struct delivery *d, const struct chunk **c, size_t *from,
                           struct err *e)
{
    while (d->deletes == NULL) {
        if (!diff_next_deletes(d->diff, &d->deletes, e))
            return false;
        if (d->deletes == NULL)
            break;
        d->deletes_done = 0;
        if (d->deletes->n_rows == 0) { /* all of them were reported before */
            chunk_free(d->deletes);
            d->deletes = NULL;
        }
    }
    if (d->deletes != NULL && !number_rows(d, d->deletes, e))
        return false;
    *c = d->deletes;
    *from = d->deletes_done;
    if (d->deletes != NULL)
        tell_lag(d, d->deletes);
    if (d->deletes == NULL || d->begins_with_deletes)
        return true;
    d->begins_with_deletes = true;
    return (d->deletes->is_log && d->count > 0) || begin(d, d->deletes->is_log) || err_memory(e);
}

bool delivery_add_deletes(struct delivery *d, size_t done)
{
    size_t from = d->deletes_done;

    d->count += done - from;
    d->n_rows += done - from;
    d->deletes_done = done;
    if (done > from && (d->last.stop == STOP_NOWHERE || d->last.stop == STOP_BEFORE_ROWS)) {
        d->last.stop = d->has_position && !d->is_joint && !d->deletes->is_log ? STOP_BEFORE_ROWS
                                                                              : STOP_NOWHERE;
        d->last.change = d->deletes->sides[done - 1].change;
    }
    if (done < d->deletes->n_rows)
        return false;
    chunk_free(d->deletes);
    d->deletes = NULL;
    return true;
}

/* ---- messages that wait ---- */

void delivery_set_again(struct delivery *d)
{
    d->is_again = true;
}

bool delivery_take_again(struct delivery *d)
{
    bool was = d->is_again;

    d->is_again = false;
    return was;
}

void delivery_park(struct delivery *d, struct message *m)
{
    queue_list_push(&d->leader->parked, &m->item);
}

void delivery_park_first(struct delivery *d, struct message *m)
{
    queue_list_push_first(&d->leader->parked, &m->item);
}

struct message *delivery_unpark(struct delivery *d)
{
    struct queue_list *parked = &d->leader->parked;

    return queue_list_is_empty(parked) ? NULL : message_of(queue_list_take(parked));
}

bool delivery_is_parked(const struct delivery *d)
{
    return !queue_list_is_empty(&d->leader->parked);
}
