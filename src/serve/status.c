/* status.c -- the figures as JSON: what GET /status answers, version 1.
 * SPDX-License-Identifier: MIT */
#include "serve/status.h"

#include "base/clock.h"
#include "serve/json_text.h"

#include <stdio.h>

static const char *const captures[] = {
    [CONFIG_BY_XMIN] = "xmin", [CONFIG_BY_INCREMENT] = "increment",
    [CONFIG_BY_TRIGGER] = "trigger", [CONFIG_BY_LOGICAL] = "logical", [CONFIG_BY_FEED] = "kafka",
};
static const char *const phases[] = { "connecting", "snapshot", "following", "done" };
static const char *const op_names[OP_COUNT] = { "read", "upsert", "insert", "update", "delete" };

/* ---- parts ---- */

static void put_problems(struct json_text *j, const struct status *s)
{
    json_text_begin(j, "problems", '[');
    for (size_t i = 0; i < s->health->n; i++) {
        const struct health_problem *p = &s->health->problems[i];

        json_text_begin(j, NULL, '{');
        json_text_string(j, "reason", health_word(p->reason));
        json_text_string(j, "source", p->source);
        json_text_string(j, "sink", p->sink);
        json_text_bool(j, "blocking", p->is_blocking);
        json_text_time(j, "since", p->since_us);
        json_text_string(j, "message", p->text);
        json_text_end(j, '}');
    }
    json_text_end(j, ']');
}

/* Null where nothing was timed. */
static void put_histogram(struct json_text *j, const char *key, const struct histogram *h)
{
    char text[96];

    if (h->count == 0) {
        json_text_raw(j, key, NULL);
        return;
    }
    json_text_begin(j, key, '{');
    json_text_u64(j, "count", h->count);
    snprintf(text, sizeof text, "%.9g", h->sum);
    json_text_raw(j, "sum", text);
    snprintf(text, sizeof text, "%.9g", h->last);
    json_text_raw(j, "last", text);
    json_text_end(j, '}');
}

static void put_trouble(struct json_text *j, const struct status *s,
                        const struct script_figures_trouble *t)
{
    if (t == NULL || t->since_us == 0) {
        json_text_raw(j, "trouble", NULL);
        return;
    }
    json_text_begin(j, "trouble", '{');
    json_text_time(j, "since", t->since_us);
    json_text_time(j, "again", t->again_us);
    json_text_u64(j, "attempts", t->attempts);
    json_text_string(j, "place", t->place);
    json_text_string(j, "message", health_trouble_text(t, s->options));
    json_text_end(j, '}');
}

/* ---- sources ---- */

static void put_changes(struct json_text *j, const struct status *s, size_t i)
{
    const struct figures_source *source = &s->figures->sources[i];

    json_text_begin(j, "changes", '{');
    for (int op = 0; op < OP_COUNT; op++)
        json_text_u64(j, op_names[op], source->changes[op]);
    json_text_end(j, '}');
    json_text_seconds(j, "changes_per_second", history_rate(s->history, i));
    json_text_time(j, "last_change", source->changed_us);
    json_text_begin(j, "history", '{');
    json_text_u64(j, "seconds", HISTORY_SECONDS);
    json_text_begin(j, "changes", '[');
    for (size_t k = 0; k < s->history->n_steps; k++)
        json_text_u64(j, NULL, history_step(s->history, i, k));
    json_text_end(j, ']');
    json_text_end(j, '}');
}

static void put_snapshot(struct json_text *j, const struct figures_source *source)
{
    if (source->phase == FIGURES_CONNECTS) {
        json_text_raw(j, "snapshot", NULL);
        return;
    }
    json_text_begin(j, "snapshot", '{');
    json_text_bool(j, "done", source->phase != FIGURES_SNAPSHOT);
    json_text_u64(j, "rows", source->snapshot_rows);
    json_text_seconds(j, "progress", source->snapshot_share);
    if (source->phase == FIGURES_SNAPSHOT && source->snapshot_left >= 0)
        json_text_seconds(j, "seconds_left", source->snapshot_left);
    else
        json_text_raw(j, "seconds_left", NULL);
    json_text_end(j, '}');
}

/* What a user has asked to be read again; null: nothing. */
static void put_reread(struct json_text *j, const struct figures_source *source)
{
    if (!source->is_reread) {
        json_text_raw(j, "snapshot_again", NULL);
        return;
    }
    json_text_begin(j, "snapshot_again", '{');
    json_text_u64(j, "rows", source->reread_rows);
    json_text_seconds(j, "progress", source->reread_share);
    json_text_end(j, '}');
}

static void put_position(struct json_text *j, const struct status *s,
                         const struct figures_source *source)
{
    char lsn[32];

    json_text_begin(j, "position", '{');
    json_text_bool(j, "kept", source->has_kept);
    if (source->xmax != 0)
        json_text_u64(j, "xmax", source->xmax);
    else
        json_text_raw(j, "xmax", NULL);
    snprintf(lsn, sizeof lsn, "%X/%08X", (unsigned)(source->lsn >> 32), (unsigned)source->lsn);
    json_text_string(j, "lsn", source->lsn != 0 ? lsn : NULL);
    json_text_time(j, "saved", source->saved_us);
    if (source->saved_us != 0)
        json_text_seconds(j, "age_seconds", (double)(s->now_us - source->saved_us) / 1e6);
    else
        json_text_raw(j, "age_seconds", NULL);
    json_text_u64(j, "unsaved_batches", source->unsaved_batches);
    json_text_time(j, "unsaved_since", source->unsaved_us);
    json_text_end(j, '}');
}

static void put_polls(struct json_text *j, const struct meter_values *m)
{
    json_text_begin(j, "polls", '{');
    json_text_u64(j, "changed", m->polls[METER_CHANGED]);
    json_text_u64(j, "empty", m->polls[METER_EMPTY]);
    json_text_u64(j, "skipped", m->polls[METER_SKIPPED]);
    json_text_u64(j, "error", m->polls[METER_ERROR]);
    json_text_end(j, '}');
    put_histogram(j, "poll_seconds", &m->poll_seconds);
    json_text_u64(j, "rows_scanned", m->rows_scanned);
    json_text_u64(j, "reconnects", m->reconnects);
    json_text_u64(j, "spool_bytes", m->spool_bytes);
    if (m->has_slot)
        json_text_u64(j, "slot_retained_bytes", m->slot_bytes);
}

static void put_left(struct json_text *j, int64_t left)
{
    if (left >= 0)
        json_text_u64(j, "records_left", (uint64_t)left);
    else
        json_text_raw(j, "records_left", NULL);
}

/* Of a source of topics. */
static void put_partitions(struct json_text *j, const struct script_figures *half, size_t source)
{
    json_text_begin(j, "partitions", '[');
    for (size_t i = 0; i < half->n_partitions; i++) {
        const struct script_figures_partition *p = &half->partitions[i];

        if (p->source != source)
            continue;
        json_text_begin(j, NULL, '{');
        json_text_string(j, "topic", p->topic);
        json_text_u64(j, "partition", p->number);
        put_left(j, p->left);
        json_text_end(j, '}');
    }
    json_text_end(j, ']');
}

static void put_source(struct json_text *j, const struct status *s, size_t i)
{
    const struct figures_source *source = &s->figures->sources[i];
    const struct script_figures *half = s->figures->script_half;
    bool has_half = half != NULL && i < half->n_sources;

    json_text_begin(j, NULL, '{');
    json_text_string(j, "name", source->name);
    json_text_string(j, "table", source->table);
    json_text_string(j, "capture", captures[source->capture]);
    json_text_string(j, "phase", phases[source->phase]);
    json_text_bool(j, "paused", source->is_paused);
    json_text_bool(j, "paused_by_user", source->is_paused_by_user);
    json_text_seconds(j, "interval_seconds", (double)source->interval_ms / 1000);
    json_text_seconds(j, "stretched_interval_seconds", (double)source->meter.interval_ms / 1000);
    json_text_seconds(j, "lag_seconds", figures_lag(source, s->now_us, s->now_ms));
    json_text_string(j, "lag_since", source->is_since_commit ? "commit" : "read");
    put_changes(j, s, i);
    put_snapshot(j, source);
    put_reread(j, source);
    put_position(j, s, source);
    put_polls(j, &source->meter);
    put_histogram(j, "handler_seconds", &source->handler_seconds);
    put_histogram(j, "delivery_seconds", &source->delivery_seconds);
    json_text_u64(j, "filtered", has_half ? half->sources[i].filtered : 0);
    json_text_u64(j, "failed", has_half ? half->sources[i].failed : 0);
    json_text_u64(j, "dead_letters", has_half ? half->sources[i].dead_letters : 0);
    json_text_u64(j, "retries", source->meter.retries + (has_half ? half->sources[i].retries : 0));
    if (has_half && source->capture == CONFIG_BY_FEED)
        put_partitions(j, half, i);
    put_trouble(j, s, has_half ? &half->sources[i].trouble : NULL);
    json_text_end(j, '}');
}

/* ---- the Lua half ---- */

static const char *source_name(const struct status *s, size_t i)
{
    return i < s->figures->n_sources ? s->figures->sources[i].name : NULL;
}

static void put_source_names(struct json_text *j, const struct status *s, const size_t *sources,
                             size_t n)
{
    json_text_begin(j, "sources", '[');
    for (size_t i = 0; i < n; i++)
        json_text_string(j, NULL, source_name(s, sources[i]));
    json_text_end(j, ']');
}

static void put_sinks(struct json_text *j, const struct status *s,
                      const struct script_figures *half)
{
    json_text_begin(j, "sinks", '[');
    for (size_t i = 0; half != NULL && i < half->n_sinks; i++) {
        const struct script_figures_sink *sink = &half->sinks[i];

        json_text_begin(j, NULL, '{');
        json_text_string(j, "name", sink->name);
        json_text_string(j, "kind", sink->kind);
        put_source_names(j, s, sink->sources, sink->n_sources);
        put_histogram(j, "flush_seconds", &sink->flush_seconds);
        json_text_time(j, "flushed", sink->flushed_us);
        if (sink->has_stats) {
            json_text_u64(j, "records", sink->records);
            if (sink->has_bytes)
                json_text_u64(j, "bytes", sink->bytes);
            json_text_u64(j, "retries", sink->retries);
            json_text_u64(j, "refused", sink->refused);
            json_text_u64(j, "unsent_rows", sink->unsent_rows);
            if (sink->has_bytes)
                json_text_u64(j, "unsent_bytes", sink->unsent_bytes);
            json_text_bool(j, "connected", sink->is_open);
            json_text_bool(j, "breaker_open", sink->is_tripped);
        }
        put_trouble(j, s, &sink->trouble);
        json_text_end(j, '}');
    }
    json_text_end(j, ']');
}

static void put_operators(struct json_text *j, const struct status *s,
                          const struct script_figures *half)
{
    json_text_begin(j, "operators", '[');
    for (size_t i = 0; half != NULL && i < half->n_operators; i++) {
        const struct script_figures_operator *o = &half->operators[i];

        json_text_begin(j, NULL, '{');
        json_text_string(j, "name", o->name);
        json_text_string(j, "kind", o->kind);
        json_text_string(j, "place", o->place);
        put_source_names(j, s, o->sources, o->n_sources);
        json_text_u64(j, "held_batches", o->held);
        json_text_time(j, "held_since", o->since_us);
        json_text_end(j, '}');
    }
    json_text_end(j, ']');
}

/* Of a member of a group. */
static void put_workers(struct json_text *j, const struct script_figures *half)
{
    json_text_begin(j, "workers", '[');
    for (size_t i = 0; half != NULL && i < half->n_workers; i++) {
        const struct script_figures_worker *w = &half->workers[i];

        json_text_begin(j, NULL, '{');
        json_text_string(j, "name", w->name);
        if (w->pid != 0)
            json_text_u64(j, "pid", w->pid);
        else
            json_text_raw(j, "pid", NULL);
        json_text_bool(j, "ready", w->is_ready);
        json_text_time(j, "since", w->since_us);
        json_text_u64(j, "restarts", w->restarts);
        put_left(j, w->left);
        json_text_end(j, '}');
    }
    json_text_end(j, ']');
}

static void put_letters(struct json_text *j, const struct status *s,
                        const struct script_figures *half)
{
    json_text_begin(j, "given_up", '[');
    for (size_t i = 0; half != NULL && i < half->n_letters; i++) {
        const struct script_figures_letter *l = &half->letters[i];

        json_text_begin(j, NULL, '{');
        json_text_string(j, "source", source_name(s, l->source));
        json_text_string(j, "sink", l->sink);
        json_text_time(j, "at", l->at_us);
        json_text_string(j, "place", l->place);
        json_text_string(j, "change", s->options->shows_rows ? l->change : NULL);
        json_text_string(j, "message", s->options->shows_rows ? l->text : NULL);
        json_text_end(j, '}');
    }
    json_text_end(j, ']');
}

/* ---- what holds positions back ---- */

static void begin_holder(struct json_text *j, const char *kind, const char *source,
                         const char *name, int64_t since_us)
{
    json_text_begin(j, NULL, '{');
    json_text_string(j, "kind", kind);
    json_text_string(j, "source", source);
    json_text_string(j, "name", name);
    json_text_time(j, "since", since_us);
}

static void end_holder(struct json_text *j, const char *message)
{
    json_text_string(j, "message", message);
    json_text_end(j, '}');
}

static void put_holding_operators(struct json_text *j, const struct status *s,
                                  const struct script_figures *half)
{
    char text[128];

    for (size_t i = 0; half != NULL && i < half->n_operators; i++) {
        const struct script_figures_operator *o = &half->operators[i];

        if (o->held == 0 || s->now_us - o->since_us < HEALTH_WINDOW_MS * 1000)
            continue;
        snprintf(text, sizeof text, "keeps values of %llu batch%s", (unsigned long long)o->held,
                 o->held == 1 ? "" : "es");
        for (size_t k = 0; k < o->n_sources; k++) {
            begin_holder(j, "operator", source_name(s, o->sources[k]), o->name, o->since_us);
            end_holder(j, text);
        }
    }
}

static void put_holding_handler(struct json_text *j, const struct status *s)
{
    const struct figures *f = s->figures;
    char text[128];

    if (f->work != BEAT_DELIVERS || f->work_ms < HEALTH_WINDOW_MS)
        return;
    snprintf(text, sizeof text, "has been at work on one change for %.0f s",
             (double)f->work_ms / 1000);
    begin_holder(j, "handler", source_name(s, f->work_source), NULL,
                 s->now_us - f->work_ms * 1000);
    end_holder(j, text);
}

/* What keeps positions from being saved just now. */
static void put_holding(struct json_text *j, const struct status *s,
                        const struct script_figures *half)
{
    json_text_begin(j, "holding", '[');
    put_holding_handler(j, s);
    for (size_t i = 0; half != NULL && i < half->n_sinks; i++)
        if (half->sinks[i].trouble.since_us != 0) {
            begin_holder(j, "sink", NULL, half->sinks[i].name, half->sinks[i].trouble.since_us);
            end_holder(j, health_trouble_text(&half->sinks[i].trouble, s->options));
        }
    for (size_t i = 0; half != NULL && i < half->n_sources; i++) {
        const struct script_figures_trouble *t = &half->sources[i].trouble;

        if (t->since_us != 0 && t->may_have_data) {
            begin_holder(j, "handler", source_name(s, i), t->place, t->since_us);
            end_holder(j, health_trouble_text(t, s->options));
        }
    }
    put_holding_operators(j, s, half);
    json_text_end(j, ']');
}

/* ---- all of it ---- */

static void put_loop(struct json_text *j, const struct figures *f)
{
    struct buf work;

    buf_init(&work, 1000);
    health_put_work(f, &work);
    json_text_begin(j, "loop", '{');
    json_text_string(j, "work", buf_ok(&work) ? work.data : NULL);
    json_text_seconds(j, "work_seconds", (double)f->work_ms / 1000);
    json_text_seconds(j, "turned_seconds_ago", (double)f->turned_ms / 1000);
    json_text_end(j, '}');
    buf_fini(&work);
}

static void put_process(struct json_text *j, const char *key, const struct role_process *p)
{
    if (p->host[0] == '\0') {
        json_text_raw(j, key, NULL);
        return;
    }
    json_text_begin(j, key, '{');
    json_text_string(j, "host", p->host);
    json_text_u64(j, "pid", p->pid);
    json_text_end(j, '}');
}

/* Null where the state is in a file, and of a member. */
static void put_lease(struct json_text *j, const struct role_facts *r)
{
    if (r->kind == ROLE_ALONE || r->kind == ROLE_MEMBER) {
        json_text_raw(j, "lease", NULL);
        return;
    }
    json_text_begin(j, "lease", '{');
    json_text_u64(j, "epoch", r->epoch);
    json_text_u64(j, "seconds", (uint64_t)r->lease_s);
    if (r->kind == ROLE_LEADER)
        json_text_seconds(j, "renewed_seconds_ago",
                          (double)(clock_boot_ms() - r->renewed_ms) / 1000);
    else
        json_text_raw(j, "renewed_seconds_ago", NULL);
    put_process(j, "leader", &r->leader);
    put_process(j, "standby", &r->other);
    json_text_u64(j, "standbys", r->standbys);
    json_text_end(j, '}');
}

static const char *role_word(const struct figures *f)
{
    static const char *const words[] = { "alone", "standby", "leader", "member" };

    return words[f->role.kind];
}

static void put_program(struct json_text *j, const struct status *s)
{
    const struct figures *f = s->figures;
    const char *slash = strrchr(f->script, '/');

    json_text_u64(j, "version", STATUS_VERSION);
    json_text_string(j, "program", f->version);
    json_text_string(j, "script", slash != NULL ? slash + 1 : f->script);
    json_text_string(j, "role", role_word(f));
    put_lease(j, &f->role);
    json_text_time(j, "started", f->began_us);
    json_text_time(j, "now", s->now_us);
    json_text_bool(j, "live", s->health->is_live);
    json_text_bool(j, "ready", s->health->is_ready);
    json_text_time(j, "since", s->since_us);
    json_text_seconds(j, "max_lag_seconds", s->options->max_lag);
    json_text_bool(j, "shows_rows", s->options->shows_rows);
}

void status_put(struct buf *to, const struct status *s)
{
    const struct script_figures *half = s->figures->script_half;
    struct json_text j = { .to = to };

    json_text_begin(&j, NULL, '{');
    put_program(&j, s);
    put_problems(&j, s);
    json_text_begin(&j, "sources", '[');
    for (size_t i = 0; i < s->figures->n_sources; i++)
        put_source(&j, s, i);
    json_text_end(&j, ']');
    put_holding(&j, s, half);
    put_sinks(&j, s, half);
    put_operators(&j, s, half);
    put_letters(&j, s, half);
    if (s->figures->role.kind == ROLE_MEMBER)
        put_workers(&j, half);
    put_loop(&j, s->figures);
    json_text_u64(&j, "queue_bytes", s->figures->queue_bytes);
    json_text_u64(&j, "lua_memory_bytes", s->figures->lua_bytes);
    json_text_u64(&j, "resident_bytes", s->figures->resident_bytes);
    json_text_u64(&j, "state_file_bytes", s->figures->state_bytes);
    json_text_raw(&j, "pipeline", half != NULL ? half->graph : NULL);
    json_text_end(&j, '}');
    buf_putc(to, '\n');
}

void status_put_ready(struct buf *to, const struct status *s)
{
    struct json_text j = { .to = to };

    json_text_begin(&j, NULL, '{');
    json_text_bool(&j, "ready", s->health->is_ready);
    json_text_string(&j, "role", role_word(s->figures));
    json_text_time(&j, "since", s->since_us);
    put_problems(&j, s);
    json_text_end(&j, '}');
    buf_putc(to, '\n');
}
