/* deletes.c -- from the server's tally to deletes in the script's hands.
 * SPDX-License-Identifier: MIT */
#include "host/deletes.h"

#include "lua/hooks.h"
#include "lua/hooks_deliver.h"

/* Takes in what the message says. *is_over: all deletes are known. */
static bool take_in(struct reader *r, struct diff *diff, struct message *m, bool *is_over,
                    struct err *e)
{
    const struct tally_request *asked;

    if (m->kind == MESSAGE_KEYS) {
        *is_over = m->chunk.ends;
        return diff_take_keys(diff, &m->chunk, e);
    }
    if (!diff_compare(diff, &m->tally, &asked, e))
        return false;
    *is_over = asked == NULL;
    if (!reader_answer(r, m->source, asked) && asked != NULL) {
        diff_do_without_keys(diff);
        *is_over = true;
    }
    return true;
}

bool deletes_deliver(struct script *s, struct delivery *d, bool *is_done, struct err *e)
{
    const char *name = s->sources[delivery_source(d)].name;

    *is_done = false;
    for (;;) {
        struct hooks_deliver_rows rows = { .source = delivery_source(d),
                                           .may_stop = !delivery_is_whole(d) };

        if (!delivery_next_deletes(d, &rows.chunk, &rows.done, e))
            return err_prefix(e, "source %s", name);
        if (rows.chunk == NULL) {
            *is_done = true;
            return true;
        }
        rows.may_stop = rows.may_stop && !rows.chunk->is_log;
        rows.batch = delivery_batch(d);
        if (!hooks_deliver(s, &rows, e))
            return false;
        if (!delivery_add_deletes(d, rows.done)) {
            if (!rows.may_stop || !script_should_stop(s))
                delivery_set_again(d);
            return true;
        }
        if (rows.may_stop && script_should_stop(s))
            return true;
    }
}

bool deletes_handle(struct script *s, struct reader *r, struct delivery *d, struct message *m,
                    struct err *e)
{
    const char *name = s->sources[m->source].name;
    struct diff *diff = delivery_diff(d);
    bool is_over, is_done;

    if (script_should_stop(s) && !(delivery_is_whole(d) && delivery_is_begun(d)))
        return true; /* what was begun may end here: see rows_stop */
    if (!m->is_taken_in) {
        m->is_taken_in = true;
        if (!take_in(r, diff, m, &is_over, e))
            return err_prefix(e, "source %s", name);
        if (!is_over)
            return true;
        if (diff_take_truncated(diff) && !hooks_truncate(s, m->source, e))
            return err_prefix(e, "source %s", name);
    }
    return delivery_is_whole(d) || deletes_deliver(s, d, &is_done, e);
}

bool deletes_truncate(struct script *s, struct delivery *d, struct message *m, struct err *e)
{
    struct diff *diff = delivery_diff(d);
    bool is_done;

    if (!m->is_taken_in) {
        m->is_taken_in = true;
        if (!hooks_truncate(s, m->source, e))
            return false;
        if (diff != NULL && !diff_truncate(diff, m->rowtype, &m->log, e))
            return err_prefix(e, "source %s", s->sources[m->source].name);
    }
    return diff == NULL || deletes_deliver(s, d, &is_done, e);
}
