/* step.c -- one poll, or one range of the snapshot, of one source.
 * SPDX-License-Identifier: MIT */
#include "capture/step.h"

#include "capture/badtext.h"
#include "capture/counters.h"
#include "capture/fault.h"
#include "capture/hinted.h"
#include "capture/reading.h"
#include "capture/reread_step.h"
#include "capture/summary.h"
#include "capture/trial.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct step {
    struct source source;
    struct key_census census;
    bool is_resolved, has_tried, has_polled;
    bool is_reread;       /* the step in hand reads a range again, see reread.h */
    bool has_looked;      /* at the facts, since the position was restored: it fits them */
    /* between step_begin and the end of step_next: */
    struct reading reading;
    uint64_t n_lines;     /* of readings that were dropped, see step_take_lines */
    struct load_poll times; /* likewise, see step_take_times */
    bool is_start;        /* the step begins with a new position */
    enum fault_news news;
    struct chunk_row out; /* the last row handed out, of an ordered chunk with its key */
    struct buf out_key;
};

static void drop_reading(struct step *step)
{
    step->n_lines += step->reading.n_lines;
    load_add_times(&step->times, &step->reading.times);
    reading_fini(&step->reading);
    key_census_drop(&step->census);
    reading_init(&step->reading, &step->source, &step->census);
    step->is_start = false;
    buf_fini(&step->out_key);
    buf_init(&step->out_key, SIZE_MAX / 2);
}

struct step *step_new(const struct config *config, size_t number)
{
    struct step *step = calloc(1, sizeof *step);

    if (step == NULL)
        return NULL;
    source_init(&step->source, config, number);
    step->census.is_owed = config->deletes;
    step->census.check_ms = config->check_ms;
    drop_reading(step);
    if (method_init(&step->source))
        return step;
    step_free(step);
    return NULL;
}

void step_free(struct step *step)
{
    if (step == NULL)
        return;
    reading_fini(&step->reading);
    key_census_drop(&step->census);
    buf_fini(&step->out_key);
    method_fini(&step->source);
    source_fini(&step->source);
    free(step);
}

/* Makes a message of <text>, which it takes over. */
static bool make_message(enum message_kind kind, const struct step *step, struct buf *text,
                         struct message **message, struct err *e)
{
    struct message *m = message_new(kind, step->source.number);

    if (m != NULL && (m->text = buf_take(text)) != NULL) {
        *message = m;
        return true;
    }
    message_free(m);
    buf_fini(text);
    return err_memory(e);
}

bool step_resolve(struct step *step, struct conn *conn, struct message **message, struct err *e)
{
    struct source *s = &step->source;
    struct buf name;

    step->is_resolved = begin_resolve(&s->facts, conn, s->config,
                                      s->declared->without_xmin != NULL, e);
    if (!step->is_resolved)
        return false;
    buf_init(&name, 4096);
    buf_printf(&name, "%s.%s", s->facts.table.schema, s->facts.table.name);
    return make_message(MESSAGE_RESOLVED, step, &name, message, e);
}

bool step_is_resolved(const struct step *step)
{
    return step->is_resolved;
}

bool step_restore(struct step *step, const struct position *kept)
{
    if (kept == NULL)
        return true;
    if (!source_restore(&step->source, kept))
        return false;
    step->census.is_owed = source_counts_keys(&step->source);
    return true;
}

void step_name_bad_column(struct step *step, struct conn *conn, struct err *e)
{
    const struct sql_query q = method_query(&step->source);
    const struct method *m = step->source.declared;

    badtext_name_column(conn, &q, step->source.config->rls, e);
    if (m->explain != NULL)
        m->explain(&step->source, e);
}

bool step_is_in_snapshot(const struct step *step)
{
    return step->source.position.phase != POSITION_POLL;
}

bool step_is_complete(const struct step *step)
{
    return !step_is_in_snapshot(step) && step->has_polled && !step->census.is_owed;
}

bool step_is_held(const struct step *step)
{
    return step->source.config->is_joint || !reading_is_ordered(&step->reading) ||
           step->census.is_wanted;
}

void step_put_figures(const struct step *step, struct buf *b)
{
    const struct load_poll *t = &step->reading.times;

    if (step->source.quiet.is_used) {
        buf_puts(b, "read=quiet");
        return;
    }
    hinted_put_figures(&step->source, b);
    buf_printf(b, "%sms=%.1f", b->len > 0 ? " " : "", (double)(t->scan_us + t->census_us) / 1000);
}

uint64_t step_take_lines(struct step *step)
{
    uint64_t n = step->n_lines + step->reading.n_lines;

    step->n_lines = step->reading.n_lines = 0;
    return n;
}

void step_take_times(struct step *step, struct load_poll *to)
{
    load_add_times(to, &step->times);
    load_add_times(to, &step->reading.times);
}

void step_stretch(struct step *step, const struct load *load)
{
    step->census.check_ms = load_stretch(load, step->source.config->check_ms);
}

bool step_wants_census(const struct step *step)
{
    return key_census_is_due(&step->census, &step->source);
}

void step_owe_census(struct step *step)
{
    step->census.is_owed = source_counts_keys(&step->source);
}

void step_choose(struct step *step, bool is_reread)
{
    step->is_reread = is_reread;
}

int64_t step_due_ms(const struct step *step, int64_t poll_ms)
{
    const struct source *s = &step->source;
    const struct method *m = method_of(s);
    int64_t census_ms = key_census_due_ms(&step->census, s);
    int64_t method_ms = m->due_ms != NULL ? m->due_ms(s) : INT64_MAX;

    poll_ms = census_ms < poll_ms ? census_ms : poll_ms;
    return method_ms < poll_ms ? method_ms : poll_ms;
}

bool step_answer(struct step *step, bool is_answered, const struct tally_request *asked,
                 struct err *e)
{
    return !is_answered || key_census_answer(&step->census, asked) || err_memory(e);
}

/* ---- the beginning ---- */

void step_lock_too(struct step *step, const struct relation *const *tables, size_t n)
{
    step->source.locked = tables;
    step->source.n_locked = n;
}

const struct relation *step_relation(const struct step *step)
{
    return &step->source.facts.table;
}

/* True if the method polls though nothing has committed, or the census is due, or a user asks. */
static bool must_poll(const struct step *step)
{
    const struct source *s = &step->source;
    const struct method *m = method_of(s);

    return step->is_reread || (m->wants_poll != NULL && m->wants_poll(s)) ||
           key_census_is_overdue(&step->census, s);
}

static void begin_look(struct step *step)
{
    drop_reading(step);
    step->source.quiet.is_used = step->source.round.is_passed = false;
}

/* Asks the counters even if the poll may not be left out, so that the next one has something to
 * compare with. */
static bool look_at_counters(struct step *step, struct conn *conn, struct err *e)
{
    struct source *const one[1] = { &step->source };

    if (!counters_are_wanted(&step->source))
        return true;
    if (!counters_ask(one, 1, conn, e))
        return false;
    (void)step_rest(step);
    return true;
}

bool step_look(struct step *step, struct conn *conn, bool *is_due, struct err *e)
{
    bool is_unchanged;

    begin_look(step);
    if (!fault_glance(&step->source, conn, &is_unchanged, e))
        return false;
    *is_due = !is_unchanged || must_poll(step);
    if (*is_due && !look_at_counters(step, conn, e))
        return false;
    *is_due = *is_due && !step_is_quiet(step);
    return !*is_due || hinted_look(&step->source, conn, e);
}

bool step_take_glance(struct step *step, const struct begin_facts *now, bool *is_due,
                      struct err *e)
{
    bool is_unchanged;

    begin_look(step);
    if (!fault_take_glance(&step->source, now, &is_unchanged, e))
        return false;
    *is_due = !is_unchanged || must_poll(step);
    return true;
}

bool step_rest(struct step *step)
{
    struct source *s = &step->source;

    s->quiet.is_used = !must_poll(step) && counters_stand_still(s);
    step->has_polled = step->has_polled || s->quiet.is_used;
    return s->quiet.is_used;
}

bool step_may_pass(const struct step *step)
{
    const struct source *s = &step->source;
    const struct position *p = &s->position;

    return !must_poll(step) && p->phase == POSITION_POLL && s->polled != NULL &&
           p->n_resume_points == 0 && !reread_is_due(&p->reread) && !source_counts_keys(s) &&
           !s->facts.is_new_rowtype && s->is_ready && method_of(s) == &method_xmin &&
           method_that_holds(p) == &method_xmin;
}

void step_pass(struct step *step)
{
    step->reading.method.method = method_of(&step->source);
    step->reading.part = READING_POLL;
    step->source.round.is_passed = true;
}

bool step_is_quiet(const struct step *step)
{
    return step->source.quiet.is_used;
}

bool step_rise(struct step *step, bool *has_risen, struct err *e)
{
    step->has_polled = true;
    *has_risen = false;
    return !quiet_lets_rise(&step->source.quiet) || method_rise(&step->source, has_risen, e);
}

/* Finds out, once, whether the source's columns, key and condition work at all. */
static bool try_query(struct step *step, struct conn *conn, struct err *e)
{
    step->has_tried = step->has_tried || trial_query(&step->source, conn, e);
    return step->has_tried;
}

/* True if the step reads a range of the snapshot. */
static bool reads_range(const struct step *step)
{
    const struct source *s = &step->source;

    return s->position.phase == POSITION_SNAPSHOT && !source_reads_whole(s) &&
           step->reading.method.method->range.put != NULL;
}

static bool begin_reading(struct step *step, bool is_idle, struct conn *conn, struct err *e)
{
    struct reading *r = &step->reading;

    r->method.method = method_of(&step->source);
    if (step->news == FAULT_STARTS_NOW && r->method.method->xids.put != NULL) {
        r->part = READING_XIDS;
        key_census_begin(&step->census, &step->source, true);
    }
    if (step->is_start || is_idle)
        return true;
    if (step->is_reread)
        return reread_step_try(&step->source, conn, e) &&
               reading_begin_reread(r, conn, e);
    return reads_range(step) ? reading_begin_range(r, conn, e) : reading_begin_poll(r, conn, e);
}

/* Adds MESSAGE_READY, once, when no first read is under way or to come, and the polls do not only
 * learn what is there. */
static bool add_ready(struct step *step, struct err *e)
{
    struct source *s = &step->source;
    const struct method *m = method_of(s);

    return s->position.phase != POSITION_POLL || step->reading.part == READING_XIDS ||
           (m->is_silent != NULL && m->is_silent(&s->position)) ||
           (m->is_ready != NULL && !m->is_ready(s)) || source_add_ready(s, e);
}

bool step_open(struct step *step, struct step *leader, struct conn *conn, bool *is_start,
               struct err *e)
{
    struct source *s = &step->source;

    s->leader = leader != NULL ? &leader->source : NULL;
    s->quiet.is_used = false; /* another source of the unit is due */
    if (s->declared->prepare != NULL && !s->declared->prepare(s, conn, e))
        return false;
    if (!fault_begin(s, conn, &step->news, e))
        return false;
    step->has_looked = true;
    *is_start = step->is_start = step->news != FAULT_GOES_ON;
    step->census.is_owed = step->census.is_owed || (step->is_start && source_counts_keys(s));
    return try_query(step, conn, e);
}

/* If other sources read in the same transaction: sets the settings of this source. */
static bool switch_settings(const struct step *step, struct conn *conn, struct err *e)
{
    const struct source *s = &step->source;
    struct buf sql;
    bool ok;

    if (s->n_locked < 2)
        return true;
    buf_init(&sql, BUF_SQL_MAX);
    sql_switch(&sql, s->config->rls, s->declared->by_index);
    ok = buf_ok(&sql) ? conn_run(conn, sql.data, NULL, NULL, 0, e) : err_memory(e);
    buf_fini(&sql);
    return ok;
}

bool step_begin(struct step *step, bool is_idle, struct conn *conn, struct err *e)
{
    return switch_settings(step, conn, e) && begin_reading(step, is_idle, conn, e) &&
           add_ready(step, e);
}

/* ---- the end ---- */

/* All of the step was read: moves the position over it. */
static bool move_position(struct step *step, struct err *e)
{
    struct source *s = &step->source;
    struct reading *r = &step->reading;
    const struct method *m = r->method.method;

    if (step->is_reread && !step->is_start)
        return reread_step_advance(s, &r->range, e);
    if (reads_range(step)) {
        if (snapshot_advance(&s->position, &r->range))
            fault_end_snapshot(s);
        return true;
    }
    if (r->part == READING_NONE && !r->method.is_idle)
        return true;
    if (!(step->is_start ? method_start : m->advance)(s, &r->method, e))
        return false;
    step->has_polled = !r->method.goes_on;
    if (step->has_polled)
        fault_end_snapshot(s);
    return true;
}

/* True if every row that is there has come by now: the step was a poll, or the last range of a
 * snapshot during which nothing has committed. */
static bool is_all_known(const struct step *step, bool was_snapshot)
{
    const struct source *s = &step->source;
    const struct reading *r = &step->reading;

    if (s->position.phase != POSITION_POLL || step->is_start)
        return false;
    if (r->part > READING_RANGE)
        return !r->method.goes_on && !r->method.has_left;
    return was_snapshot && s->polled != NULL && strcmp(s->polled, s->facts.snapshot.text) == 0;
}

/* Turns the chunk in hand into the last one. */
static bool end_chunk(struct step *step, struct err *e)
{
    struct reading *r = &step->reading;
    struct position *p = &step->source.position;
    const struct method *m = method_of(&step->source);
    bool was_snapshot = p->phase == POSITION_SNAPSHOT;
    bool is_ready = step->is_start && r->part != READING_NONE; /* it has learned all rows */
    struct chunk *chunk;

    if (!reading_start_chunk(r, e))
        return false;
    chunk = &r->message->chunk;
    r->method.is_counted = key_census_is_answered(&step->census);
    if (!move_position(step, e))
        return false;
    if (was_snapshot && p->phase == POSITION_POLL)
        reading_drop_second(r);
    if (r->part > READING_RANGE)
        key_census_complete(&step->census, &step->source);
    chunk->is_all = is_all_known(step, was_snapshot);
    chunk->is_lazy = !was_snapshot && !(step->is_reread && r->range.end == 0) && !step->is_start &&
                     chunk->n_rows == 0 && !r->has_out && !step->source.facts.is_new_rowtype &&
                     r->method.hand_over == METHOD_STAYS;
    step->source.facts.is_new_rowtype = false;
    chunk->ends = true;
    if (!chunk_set_position(chunk, p))
        return err_memory(e);
    if (p->phase != POSITION_POLL || !(was_snapshot || is_ready || step->has_polled))
        return true;
    return (m->is_ready != NULL && !m->is_ready(&step->source)) ||
           source_add_ready(&step->source, e);
}

/* Remembers the last row of a chunk that is handed out. */
static bool hand_out(struct step *step, const struct chunk *chunk, struct err *e)
{
    struct reading *r = &step->reading;

    if (chunk->n_rows == 0)
        return true;
    r->has_out = true;
    step->out = chunk->rows[chunk->n_rows - 1];
    if (!chunk->is_ordered || chunk->rowtype->order == ROW_ORDER_BY_FINGERPRINT)
        return true;
    buf_clear(&step->out_key);
    return chunk_row_key(chunk, &step->out, &step->out_key) || err_memory(e);
}

/* Hands out the chunk in hand. */
static bool give_chunk(struct step *step, struct message **message, struct err *e)
{
    struct reading *r = &step->reading;

    if (!hand_out(step, &r->message->chunk, e))
        return false;
    *message = r->message;
    r->message = NULL;
    return true;
}

struct message *step_news(struct step *step)
{
    return source_take_message(&step->source);
}

bool step_next(struct step *step, struct conn *conn, struct message **message, struct err *e)
{
    struct reading *r = &step->reading;

    *message = step_news(step);
    if (*message != NULL)
        return true;
    if (!reading_next(r, conn, message, e))
        return false;
    return *message != NULL || r->is_over || give_chunk(step, message, e);
}

bool step_finish(struct step *step, struct message **message, struct err *e)
{
    return end_chunk(step, e) && give_chunk(step, message, e);
}

void step_abort(struct step *step, struct conn *conn)
{
    struct reading *r = &step->reading;

    if (conn != NULL)
        conn_rollback(conn);
    if (step->is_start && r->part != READING_NONE)
        fault_forget_start(&step->source);
    if (r->has_out && !step_is_held(step) && buf_ok(&step->out_key)) {
        const struct position_last last = {
            .xid = step->out.xid,
            .is_tombstone = step->out.is_key_only,
            .is_recheck = r->method.is_recheck,
            .order = step->source.facts.rowtype->order,
            .key = step->out_key.data,
            .len = step->out_key.len,
            .fingerprint = step->out.fingerprint,
            .n = step->out.nth,
            .scope = step->source.facts.rowtype->scope,
        };

        if (!position_end_early(&step->source.position, &r->method.delivered, &last)) {
            /* no memory: the rows come again, which is allowed where something broke */
        }
    }
    drop_reading(step);
}

struct source *step_source(struct step *step)
{
    return &step->source;
}

bool step_is_streaming(const struct step *step)
{
    const struct source *s = &step->source;

    return step->has_looked && s->declared == &method_logical &&
           s->position.phase == POSITION_POLL && s->position.logical.lsn != 0;
}

uint64_t step_announced_as(const struct step *step)
{
    const struct source *s = &step->source;

    return s->declared->announced_as != NULL ? s->declared->announced_as(s) : 0;
}

void step_stop_waiting(struct step *step)
{
    step->source.is_impatient = true;
}

/* ---- --check ---- */

bool step_check(struct step *step, struct conn *conn, struct message **message, struct err *e)
{
    struct buf report;
    bool ok = fault_look(&step->source, conn, false, e) && try_query(step, conn, e);

    conn_rollback(conn);
    if (!ok)
        return false;
    buf_init(&report, BUF_SQL_MAX);
    if (!summary_make(&step->source, conn, &report, e)) {
        buf_fini(&report);
        return false;
    }
    if (!make_message(MESSAGE_DONE, step, &report, message, e))
        return false;
    (*message)->rowtype = rowtype_ref(step->source.facts.rowtype);
    return true;
}
