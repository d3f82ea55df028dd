/* metrics.c -- the figures as Prometheus reads them.
 *
 * Labels are names of sources, sinks, operators and ops, never keys or data. A family that has no
 * sample just now is left out.
 *
 * SPDX-License-Identifier: MIT */
#include "serve/metrics.h"

#include "base/clock.h"
#include "base/text.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>

#define PREFIX "pgcdc_lua_"

enum type { COUNTER, GAUGE, HISTOGRAM, INFO };

struct out {
    struct buf *to;
    bool is_open;
    const struct figures *f;
    int64_t now_us, now_ms;
    /* of the family in hand: */
    const char *name, *help;
    enum type type;
    bool has_head;
};

static const char *const op_names[OP_COUNT] = { "read", "upsert", "insert", "update", "delete" };
static const char *const result_names[METER_RESULTS] = { "changed", "empty", "skipped", "error" };

/* ---- families and samples ---- */

static void family(struct out *o, enum type type, const char *name, const char *help)
{
    o->name = name;
    o->help = help;
    o->type = type;
    o->has_head = false;
}

/* The ending of the family's samples. In OpenMetrics the family is named without it. */
static const char *ending(const struct out *o)
{
    return o->type == COUNTER ? "_total" : o->type == INFO ? "_info" : "";
}

static void put_head(struct out *o)
{
    static const char *const types[] = { "counter", "gauge", "histogram", "info" };
    const char *type = o->type == INFO && !o->is_open ? "gauge" : types[o->type];
    const char *end = o->is_open ? "" : ending(o);

    if (o->has_head)
        return;
    o->has_head = true;
    buf_printf(o->to, "# HELP " PREFIX "%s%s %s\n# TYPE " PREFIX "%s%s %s\n", o->name, end, o->help,
               o->name, end, type);
}

static void put_value(struct buf *to, const char *text)
{
    for (size_t n; *text != '\0'; text += n > 0 ? n : 1) {
        n = text_utf8_length(text, strlen(text));
        if (n == 0)
            buf_puts(to, "\xef\xbf\xbd");
        else if (*text == '"' || *text == '\\')
            buf_printf(to, "\\%c", *text);
        else if (*text == '\n')
            buf_puts(to, "\\n");
        else
            buf_add(to, text, n);
    }
}

/* A label; NULL: none. */
struct label {
    const char *name, *value;
};

static void put_labels(struct buf *to, const struct label *labels, const char *bound)
{
    bool is_first = true;

    for (; labels != NULL && labels->name != NULL; labels++) {
        buf_printf(to, "%s%s=\"", is_first ? "{" : ",", labels->name);
        put_value(to, labels->value != NULL ? labels->value : "");
        buf_putc(to, '"');
        is_first = false;
    }
    if (bound != NULL)
        buf_printf(to, "%sle=\"%s\"", is_first ? "{" : ",", bound);
    if (!is_first || bound != NULL)
        buf_putc(to, '}');
}

static void sample(struct out *o, const struct label *labels, double value)
{
    put_head(o);
    buf_printf(o->to, PREFIX "%s%s", o->name, ending(o));
    put_labels(o->to, labels, NULL);
    if (value >= 0 && value < 1e15 && value == (double)(uint64_t)value)
        buf_printf(o->to, " %" PRIu64 "\n", (uint64_t)value);
    else
        buf_printf(o->to, " %.9g\n", value);
}

/* A wall time, in seconds. */
static void sample_time(struct out *o, const struct label *labels, int64_t us)
{
    put_head(o);
    buf_printf(o->to, PREFIX "%s", o->name);
    put_labels(o->to, labels, NULL);
    buf_printf(o->to, " %" PRId64 ".%03d\n", us / 1000000, (int)(us / 1000 % 1000));
}

static void sample_histogram(struct out *o, const struct label *labels, const struct histogram *h)
{
    uint64_t count = 0;
    char bound[32];

    put_head(o);
    for (int i = 0; i <= HISTOGRAM_BOUNDS; i++) {
        count += h->buckets[i];
        if (i < HISTOGRAM_BOUNDS)
            snprintf(bound, sizeof bound, "%g%s", histogram_bounds[i],
                     histogram_bounds[i] >= 1 && o->is_open ? ".0" : "");
        buf_printf(o->to, PREFIX "%s_bucket", o->name);
        put_labels(o->to, labels, i < HISTOGRAM_BOUNDS ? bound : "+Inf");
        buf_printf(o->to, " %" PRIu64 "\n", count);
    }
    buf_printf(o->to, PREFIX "%s_sum", o->name);
    put_labels(o->to, labels, NULL);
    buf_printf(o->to, " %.9g\n" PREFIX "%s_count", h->sum, o->name);
    put_labels(o->to, labels, NULL);
    buf_printf(o->to, " %" PRIu64 "\n", h->count);
}

/* ---- sources ---- */

#define EACH_SOURCE(o, s) \
    for (const struct figures_source *s = (o)->f->sources; \
         s < (o)->f->sources + (o)->f->n_sources; s++)
#define OF_SOURCE(s) (struct label[]){ { "source", (s)->name }, { NULL, NULL } }
#define SINCE(s) (struct label[]){ { "source", (s)->name }, { "since", since(s) }, { NULL, NULL } }

/* A figure of each source, or sink, that is a count at this place of its struct. */
struct counted {
    enum type type;
    const char *name, *help;
    size_t place;
};

static double count_at(const void *of, size_t place)
{
    return (double)*(const uint64_t *)(const void *)((const char *)of + place);
}

static const struct script_figures_source *in_script(const struct out *o, size_t i)
{
    const struct script_figures *half = o->f->script_half;

    return half != NULL && i < half->n_sources ? &half->sources[i] : NULL;
}

static void put_changes(struct out *o)
{
    family(o, COUNTER, "changes", "Changes delivered to the script, by what happened to the row.");
    EACH_SOURCE(o, s)
        for (int op = 0; op < OP_COUNT; op++)
            sample(o, (struct label[]){ { "source", s->name }, { "op", op_names[op] },
                                        { NULL, NULL } }, (double)s->changes[op]);
    family(o, GAUGE, "last_change_timestamp_seconds",
           "When the last change was delivered, in seconds since 1970.");
    EACH_SOURCE(o, s)
        if (s->changed_us != 0)
            sample_time(o, OF_SOURCE(s), s->changed_us);
    family(o, HISTOGRAM, "handler_seconds",
           "Time that a change took in handlers and operators; of fast ones a mean.");
    for (size_t i = 0; i < o->f->n_sources; i++) {
        const struct figures_source *s = &o->f->sources[i];
        const struct script_figures_source *half = in_script(o, i);

        if (half != NULL)
            sample_histogram(o, (struct label[]){ { "source", s->name },
                                                  { "handler", half->handlers },
                                                  { NULL, NULL } }, &s->handler_seconds);
    }
}

static const char *since(const struct figures_source *s)
{
    return s->is_since_commit ? "commit" : "read";
}

static void put_lag(struct out *o)
{
    family(o, GAUGE, "delivery_lag_seconds",
           "Age of the oldest change that is not saved, since its commit where that is known, else "
           "since it was read; or how long a poll is overdue, if that is more.");
    EACH_SOURCE(o, s)
        sample(o, SINCE(s), figures_lag(s, o->now_us, o->now_ms));
    family(o, HISTOGRAM, "delivery_seconds",
           "Time from the commit or the read of the oldest change to the save of its position.");
    EACH_SOURCE(o, s)
        sample_histogram(o, SINCE(s), &s->delivery_seconds);
    family(o, GAUGE, "position_age_seconds", "Time since the position was last saved.");
    EACH_SOURCE(o, s)
        if (s->saved_us != 0)
            sample(o, OF_SOURCE(s), (double)(o->now_us - s->saved_us) / 1e6);
}

#define AT(member) offsetof(struct figures_source, member)

static const struct counted of_source[] = {
    { GAUGE, "unsaved_batches", "Batches that are delivered and not saved.", AT(unsaved_batches) },
    { COUNTER, "rows_scanned", "Rows that the server has sent, delivered or not.",
      AT(meter.rows_scanned) },
    { COUNTER, "reconnects", "Connections that were made anew.", AT(meter.reconnects) },
    { GAUGE, "spool_bytes", "Bytes in the file for what queue and memory cannot hold.",
      AT(meter.spool_bytes) },
    { COUNTER, "snapshot_rows", "Rows of the snapshot that were delivered.", AT(snapshot_rows) },
};

#undef AT

static void put_polls(struct out *o)
{
    family(o, COUNTER, "polls", "Polls; skipped: nothing had committed, so nothing was read.");
    EACH_SOURCE(o, s)
        for (int i = 0; i < METER_RESULTS; i++)
            sample(o, (struct label[]){ { "source", s->name }, { "result", result_names[i] },
                                        { NULL, NULL } }, (double)s->meter.polls[i]);
    family(o, HISTOGRAM, "poll_seconds", "Time that polls took which were not skipped.");
    EACH_SOURCE(o, s)
        sample_histogram(o, OF_SOURCE(s), &s->meter.poll_seconds);
    for (size_t i = 0; i < sizeof of_source / sizeof *of_source; i++) {
        family(o, of_source[i].type, of_source[i].name, of_source[i].help);
        EACH_SOURCE(o, s)
            sample(o, OF_SOURCE(s), count_at(s, of_source[i].place));
    }
    family(o, GAUGE, "poll_interval_seconds",
           "Time from poll to poll, as far as it is stretched for max_load.");
    EACH_SOURCE(o, s)
        if (s->meter.interval_ms != 0)
            sample(o, OF_SOURCE(s), (double)s->meter.interval_ms / 1000);
    family(o, GAUGE, "slot_retained_bytes", "Bytes of the log that the slot keeps on the server.");
    EACH_SOURCE(o, s)
        if (s->meter.has_slot)
            sample(o, OF_SOURCE(s), (double)s->meter.slot_bytes);
    family(o, GAUGE, "snapshot_progress_ratio", "How much of the snapshot is done, 0 to 1.");
    EACH_SOURCE(o, s)
        if (s->phase != FIGURES_CONNECTS)
            sample(o, OF_SOURCE(s), s->snapshot_share);
}

#define AT(member) offsetof(struct script_figures_source, member)

static const struct counted of_script[] = {
    { COUNTER, "filtered", "Values that filters kept back.", AT(filtered) },
    { COUNTER, "failed", "Changes that were given up, since a handler or a target failed.",
      AT(failed) },
    { COUNTER, "dead_letters", "Of them, those that became dead letters.", AT(dead_letters) },
};

#undef AT

static void put_counts(struct out *o)
{
    for (size_t k = 0; k < sizeof of_script / sizeof *of_script; k++) {
        family(o, of_script[k].type, of_script[k].name, of_script[k].help);
        for (size_t i = 0; i < o->f->n_sources; i++)
            if (in_script(o, i) != NULL)
                sample(o, OF_SOURCE(&o->f->sources[i]),
                       count_at(in_script(o, i), of_script[k].place));
    }
    family(o, COUNTER, "retries",
           "How often something was tried again: a poll, a handler, a flush.");
    for (size_t i = 0; i < o->f->n_sources; i++)
        sample(o, OF_SOURCE(&o->f->sources[i]),
               (double)(o->f->sources[i].meter.retries +
                        (in_script(o, i) != NULL ? in_script(o, i)->retries : 0)));
}

/* ---- sinks and operators ---- */

#define EACH_SINK(half, s) /* without sinks the list is NULL, to which nothing may be added */ \
    for (const struct script_figures_sink *s = (half)->sinks; \
         s != NULL && s < (half)->sinks + (half)->n_sinks; s++)
#define OF_SINK(s) (struct label[]){ { "sink", (s)->name }, { NULL, NULL } }
#define AT(member) offsetof(struct script_figures_sink, member)

static const struct counted of_sink[] = {
    { COUNTER, "sink_records", "Records that are in the target.", AT(records) },
    { COUNTER, "sink_retries", "How often the sink was tried again.", AT(retries) },
    { COUNTER, "sink_refused", "Records that the target can never take.", AT(refused) },
    { GAUGE, "sink_unsent_records", "Records that are not in the target yet.", AT(unsent_rows) },
}, bytes_of_sink[] = {
    { COUNTER, "sink_bytes", "Bytes of the records that are in the target.", AT(bytes) },
    { GAUGE, "sink_unsent_bytes", "Bytes that wait to be sent.", AT(unsent_bytes) },
};

#undef AT

static void put_sink_count(struct out *o, const struct script_figures *half,
                           const struct counted *c, bool is_of_bytes)
{
    family(o, c->type, c->name, c->help);
    EACH_SINK(half, s)
        if (s->has_stats && (s->has_bytes || !is_of_bytes))
            sample(o, OF_SINK(s), count_at(s, c->place));
}

static void put_sinks(struct out *o, const struct script_figures *half)
{
    family(o, HISTOGRAM, "sink_flush_seconds", "Time that flushes took.");
    EACH_SINK(half, s)
        sample_histogram(o, OF_SINK(s), &s->flush_seconds);
    family(o, GAUGE, "sink_failing", "1 while the sink fails and is tried again.");
    EACH_SINK(half, s)
        sample(o, OF_SINK(s), s->trouble.since_us != 0);
    for (size_t i = 0; i < sizeof of_sink / sizeof *of_sink; i++)
        put_sink_count(o, half, &of_sink[i], false);
    for (size_t i = 0; i < sizeof bytes_of_sink / sizeof *bytes_of_sink; i++)
        put_sink_count(o, half, &bytes_of_sink[i], true);
    family(o, GAUGE, "sink_breaker_open", "1 while nothing is sent, since the target fails.");
    EACH_SINK(half, s)
        if (s->has_stats)
            sample(o, OF_SINK(s), s->is_tripped);
}

static void put_operators(struct out *o, const struct script_figures *half)
{
    family(o, GAUGE, "held_batches", "Batches of which the operator holds values.");
    for (size_t i = 0; i < half->n_operators; i++)
        sample(o, (struct label[]){ { "operator", half->operators[i].name }, { NULL, NULL } },
               (double)half->operators[i].held);
}

/* ---- topics and workers ---- */

static void put_partitions(struct out *o, const struct script_figures *half)
{
    char number[24];

    if (half->n_partitions == 0)
        return;
    family(o, GAUGE, "records_left", "Records of a partition that are not read yet.");
    for (size_t i = 0; i < half->n_partitions; i++) {
        const struct script_figures_partition *p = &half->partitions[i];

        snprintf(number, sizeof number, "%" PRIu64, p->number);
        if (p->left >= 0 && p->source < o->f->n_sources)
            sample(o, (struct label[]){ { "source", o->f->sources[p->source].name },
                                        { "topic", p->topic }, { "partition", number },
                                        { NULL, NULL } }, (double)p->left);
    }
}

#define EACH_WORKER(half, w) \
    for (const struct script_figures_worker *w = (half)->workers; \
         w != NULL && w < (half)->workers + (half)->n_workers; w++)
#define OF_WORKER(w) (struct label[]){ { "worker", (w)->name }, { NULL, NULL } }

static void put_workers(struct out *o, const struct script_figures *half)
{
    if (half->n_workers == 0)
        return;
    family(o, GAUGE, "worker_ready", "1 if the worker has read what was there when it began.");
    EACH_WORKER(half, w)
        sample(o, OF_WORKER(w), w->is_ready);
    family(o, COUNTER, "worker_restarts", "How often the worker was started again by itself.");
    EACH_WORKER(half, w)
        sample(o, OF_WORKER(w), (double)w->restarts);
    family(o, GAUGE, "worker_records_left", "Records of its partition that are not saved yet.");
    EACH_WORKER(half, w)
        if (w->left >= 0)
            sample(o, OF_WORKER(w), (double)w->left);
}

/* ---- the program ---- */

#define AT(member) offsetof(struct figures, member)
#define N_ALWAYS 2 /* of these, those that may be 0; the others are not known then */

static const struct counted of_program[] = {
    { GAUGE, "queue_bytes", "Bytes of changes between readers and the loop.", AT(queue_bytes) },
    { GAUGE, "lua_memory_bytes", "Memory of the script.", AT(lua_bytes) },
    { GAUGE, "resident_bytes", "Memory of the program.", AT(resident_bytes) },
    { GAUGE, "state_file_bytes", "Bytes of the state file and its log.", AT(state_bytes) },
};

#undef AT

static void put_program(struct out *o, const struct health *h)
{
    family(o, INFO, "build", "The program.");
    sample(o, (struct label[]){ { "version", o->f->version }, { NULL, NULL } }, 1);
    family(o, GAUGE, "up", "1 while the loop turns.");
    sample(o, NULL, h->is_live);
    family(o, GAUGE, "ready", "1 if snapshots are done and no source is late.");
    sample(o, NULL, h->is_ready);
    family(o, GAUGE, "start_time_seconds", "When the program began, in seconds since 1970.");
    sample_time(o, NULL, o->f->began_us);
    family(o, GAUGE, "loop_idle_seconds", "Time since the loop was last seen to turn.");
    sample(o, NULL, (double)o->f->turned_ms / 1000);
    for (size_t i = 0; i < sizeof of_program / sizeof *of_program; i++) {
        double value = count_at(o->f, of_program[i].place);

        family(o, of_program[i].type, of_program[i].name, of_program[i].help);
        if (value > 0 || i < N_ALWAYS)
            sample(o, NULL, value);
    }
}

/* Where the state is in a database. */
static void put_lease(struct out *o)
{
    const struct role_facts *r = &o->f->role;

    if (r->kind == ROLE_ALONE || r->kind == ROLE_MEMBER)
        return;
    family(o, GAUGE, "leader", "1 if it leads the pipeline, 0 if it is a standby.");
    sample(o, NULL, r->kind == ROLE_LEADER);
    family(o, GAUGE, "lease_epoch", "How often the pipeline was taken.");
    sample(o, NULL, (double)r->epoch);
    family(o, GAUGE, "lease_seconds", "Time after which a lease ends that is not renewed.");
    sample(o, NULL, r->lease_s);
    if (r->kind != ROLE_LEADER)
        return;
    family(o, GAUGE, "lease_age_seconds", "Time since the lease was renewed.");
    sample(o, NULL, (double)(clock_boot_ms() - r->renewed_ms) / 1000);
    family(o, GAUGE, "standbys", "Processes that wait for the pipeline.");
    sample(o, NULL, (double)r->standbys);
}

void metrics_put(struct buf *to, const struct figures *f, const struct health *h, bool is_open,
                 int64_t now_us, int64_t now_ms)
{
    struct out o = { .to = to, .is_open = is_open, .f = f, .now_us = now_us, .now_ms = now_ms };

    put_program(&o, h);
    put_lease(&o);
    put_changes(&o);
    put_lag(&o);
    put_polls(&o);
    put_counts(&o);
    if (f->script_half != NULL) {
        put_sinks(&o, f->script_half);
        put_operators(&o, f->script_half);
        put_partitions(&o, f->script_half);
        put_workers(&o, f->script_half);
    }
    if (is_open)
        buf_puts(to, "# EOF\n");
}
