/* deletes.c -- from the server's tally to deletes in the script's hands.
 * SPDX-License-Identifier: MIT */
#include "host/deletes.h"

#include "lua/hooks.h"

/* Weighs what came. *is_over: all is known that is gone. */
static bool weigh(struct reader *r, struct delivery *t, struct message *b, uint64_t saved,
                  bool *is_over, struct err *e)
{
    const unsigned char *asked;

    if (b->kind == MESSAGE_KEYS) {
        *is_over = b->chunk.ends;
        return diff_take_keys(t->diff, &b->chunk, saved, e);
    }
    if (!diff_weigh(t->diff, &b->tally, &asked, e))
        return false;
    *is_over = asked == NULL;
    if (!reader_answer(r, b->source, asked) && asked != NULL) {
        diff_do_without(t->diff);
        *is_over = true;
    }
    return true;
}

/* Takes the next deletes in hand; t->gone is NULL if there are none. */
static bool take_gone(struct script *s, struct delivery *t, size_t source, struct err *e)
{
    struct api_source *d = &s->sources[source];

    while (t->gone == NULL) {
        if (!diff_next_gone(t->diff, d->saved_note, &t->gone, e))
            return false;
        if (t->gone == NULL)
            return true;
        t->gone_done = 0;
        if (t->gone->n_rows > 0)
            break;
        chunk_free(t->gone); /* all of them were told before */
        t->gone = NULL;
    }
    if (!t->has_gone) {
        if (t->count > 0 && !delivery_restart(t))
            return err_memory(e);
        t->has_gone = true;
        d->seq++;
    }
    return true;
}

static bool deliver(struct script *s, struct delivery *t, size_t source, bool *parked,
                    struct err *e)
{
    for (;;) {
        struct hooks_rows rows = { source, NULL, 0, true };
        size_t from;
        bool ok;

        if (!take_gone(s, t, source, e))
            return err_prefix(e, "source %s", s->sources[source].name);
        if (t->gone == NULL)
            return true;
        from = t->gone_done;
        rows.chunk = t->gone;
        rows.done = from;
        ok = hooks_deliver(s, &rows, e);
        t->gone_done = rows.done;
        if (!ok) {
            delivery_name_failure(s->sources[source].name, t->gone, t->gone_done, e);
            return false;
        }
        delivery_gone(t, t->gone, from, t->gone_done);
        if (t->gone_done < t->gone->n_rows) {
            *parked = !script_should_stop(s);
            return true;
        }
        chunk_free(t->gone);
        t->gone = NULL;
        if (script_should_stop(s))
            return true;
    }
}

bool deletes_handle(struct script *s, struct reader *r, struct delivery *t, struct message *b,
                    bool *parked, struct err *e)
{
    size_t source = b->source;
    bool is_over;

    if (script_should_stop(s))
        return true; /* what was begun may end here: see stop_batches */
    if (!b->is_weighed) {
        b->is_weighed = true;
        if (!weigh(r, t, b, s->sources[source].saved_note, &is_over, e))
            return err_prefix(e, "source %s", s->sources[source].name);
        if (!is_over)
            return true;
        if (diff_take_truncated(t->diff) && !hooks_truncate(s, source, e))
            return err_prefix(e, "source %s", s->sources[source].name);
    }
    return deliver(s, t, source, parked, e);
}
