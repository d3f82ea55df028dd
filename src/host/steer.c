/* steer.c -- does what users ask of the running program.
 * SPDX-License-Identifier: MIT */
#include "host/steer.h"

#include "base/array.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/text.h"
#include "lua/command.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ANSWER_MAX ((size_t)4 << 20)

/* ---- answers ---- */

/* <json>: what else belongs to the answer, an object without its braces; or NULL. */
static void answer_with(struct steer *s, uint64_t client, bool is_ok, const char *text,
                        const char *key, const char *json)
{
    struct json_text j;
    struct buf b;

    if (client == 0)
        return;
    buf_init(&b, ANSWER_MAX);
    request_answer(&j, &b, s->script->o.version, is_ok, text);
    if (json != NULL)
        json_text_raw(&j, key, json);
    request_end(&j);
    if (!control_send(s->control, client, b.data != NULL ? b.data : "", b.len, true)) {
        /* it has hung up: what it asked for is done all the same */
    }
    buf_fini(&b);
}

static void answer(struct steer *s, uint64_t client, bool is_ok, const char *format, ...)
    WARN_PRINTF(4, 5);

static void answer(struct steer *s, uint64_t client, bool is_ok, const char *format, ...)
{
    char text[2048];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    answer_with(s, client, is_ok, text, NULL, NULL);
}

/* ---- sources ---- */

/* True if <asked> means the source: its name, or that without the schema. */
static bool is_meant(const struct api_source *source, const char *asked, bool is_exact)
{
    const char *dot = source->name != NULL ? strchr(source->name, '.') : NULL;

    if (source->name == NULL)
        return false;
    return strcmp(source->name, asked) == 0 ||
           (!is_exact && dot != NULL && source->config->name == NULL &&
            strcmp(dot + 1, asked) == 0);
}

/* Answers that no source is meant. Returns false. */
static bool fail_source(struct steer *s, const struct request *r, const char *asked, size_t n)
{
    struct buf names;

    buf_init(&names, 1500);
    for (size_t i = 0; i < s->script->n_sources; i++)
        buf_printf(&names, "%s%s", i > 0 ? ", " : "", s->script->sources[i].name);
    if (asked == NULL)
        answer(s, r->client, false, "which source? There is %s",
               names.data != NULL ? names.data : "none");
    else
        answer(s, r->client, false, n > 1 ? "%s: several sources are called so: %s"
                                          : "there is no source %s; there is %s",
               asked, names.data != NULL ? names.data : "none");
    buf_fini(&names);
    return false;
}

/* The source that a request means; the only one if it names none. False: it was answered. */
static bool find_source(struct steer *s, const struct request *r, size_t *source)
{
    const char *asked = request_word(r, "source");
    size_t n = 0;

    if (asked == NULL) {
        *source = 0;
        return s->script->n_sources == 1 || fail_source(s, r, NULL, 0);
    }
    for (int is_exact = 1; is_exact >= 0 && n == 0; is_exact--)
        for (size_t i = 0; i < s->script->n_sources; i++)
            if (is_meant(&s->script->sources[i], asked, is_exact)) {
                *source = i;
                n++;
            }
    return n == 1 || fail_source(s, r, asked, n);
}

static const char *name_of(const struct steer *s, size_t source)
{
    return s->script->sources[source].name;
}

/* ---- pauses ---- */

static struct store_slice slice(const char *text)
{
    return (struct store_slice){ text, strlen(text) };
}

static bool keep_pause(struct steer *s, size_t source, bool is_paused, struct err *e)
{
    const struct store_record r = {
        .kind = slice("paused"), .name = slice(name_of(s, source)), .key = slice(""),
        .value = is_paused ? slice("true") : (struct store_slice){ NULL, 0 },
    };
    struct store *store = s->script->store;

    if (!store_begin(store, e))
        return false;
    if (store_put(store, &r, e))
        return store_commit(store, e);
    store_rollback(store);
    return false;
}

/* What the log brings is read for several sources at once, and what is fed by no reader: so it
 * waits here. */
static void set_paused(struct steer *s, size_t source, bool is_paused)
{
    struct api_source *a = &s->script->sources[source];

    if (a->is_paused == is_paused)
        return;
    a->is_paused = is_paused;
    a->user_paused_us = clock_wall_us();
    if (a->config->capture == CONFIG_BY_LOGICAL || a->config->capture == CONFIG_BY_FEED)
        a->pauses += is_paused ? 1 : -1;
    reader_pause(s->reader, source, is_paused);
}

bool steer_resolve(struct steer *s, size_t source, struct err *e)
{
    struct store *store = s->script->store;
    struct store_record r;
    bool is_paused;

    if (store == NULL)
        return true;
    if (!store_find(store, "paused", name_of(s, source), e))
        return false;
    is_paused = store_next(store, &r, e);
    if (!is_paused)
        return e->code == ERR_NONE;
    store_leave(store);
    log_text(s->script->o.log, LOG_WARN, "paused by pgcdc-lua ctl: nothing is read until it is "
             "resumed", "source", name_of(s, source));
    set_paused(s, source, true);
    return true;
}

static bool pause_source(struct steer *s, const struct request *r, size_t source, struct err *e)
{
    bool is_paused = strcmp(r->command, "pause") == 0;

    if (s->script->sources[source].is_paused == is_paused) {
        answer(s, r->client, true, "%s: %s", name_of(s, source),
               is_paused ? "already paused" : "is not paused");
        return true;
    }
    if (!keep_pause(s, source, is_paused, e))
        return false;
    set_paused(s, source, is_paused);
    publish_soon(s->publish);
    log_text(s->script->o.log, LOG_INFO, is_paused ? "paused" : "resumed", "source",
             name_of(s, source));
    answer(s, r->client, true, "%s: %s", name_of(s, source), is_paused ? "paused" : "resumed");
    return true;
}

/* ---- other commands for a source ---- */

static bool poll_source(struct steer *s, const struct request *r, size_t source, struct err *e)
{
    (void)e;
    if (s->script->sources[source].is_paused) {
        answer(s, r->client, false, "%s is paused: resume it first", name_of(s, source));
        return true;
    }
    reader_poll(s->reader, source);
    answer(s, r->client, true, "%s: is polled now", name_of(s, source));
    return true;
}

static bool reread(struct steer *s, const struct request *r, size_t source, struct err *e)
{
    const struct api_source *a = &s->script->sources[source];
    const char *where = request_word(r, "where");

    if (a->is_paused) {
        answer(s, r->client, false, "%s is paused: resume it first", a->name);
    } else {
        if (!reader_reread(s->reader, source, where != NULL ? where : "", e))
            return false;
        s->rereads[source] = r->client;
    }
    return true;
}

void steer_tell_reread(struct steer *s, size_t source, const struct message_notice *n)
{
    bool is_ok = n->err.code == ERR_NONE;
    struct err e = n->err;

    if (!is_ok)
        err_prefix(&e, "rows are not read again");
    log_text(s->script->o.log, n->level, e.msg, "source", name_of(s, source));
    if (s->rereads == NULL)
        return;
    answer(s, s->rereads[source], is_ok, "%s: %s", name_of(s, source), e.msg);
    s->rereads[source] = 0;
}

/* ---- taps ---- */

static bool tap(struct steer *s, const struct request *r, size_t source, struct err *e)
{
    const char *count = request_word(r, "count");
    struct steer_tap t = { .client = r->client, .left = 10, .source = source };
    struct json_text j;
    struct buf b;
    bool ok;

    if (count != NULL && (!text_is_u64(count, &t.left) || t.left == 0)) {
        answer(s, r->client, false, "tap: count=%s: write how many changes, such as 10", count);
        return true;
    }
    if (!ARRAY_PUSH(s->taps, s->n_taps, s->cap_taps, t))
        return err_memory(e);
    s->script->sources[source].is_tapped = true;
    buf_init(&b, 4096);
    request_answer(&j, &b, s->script->o.version, true, "");
    request_end(&j);
    ok = control_send(s->control, r->client, b.data, b.len, false);
    buf_fini(&b);
    if (!ok)
        s->taps[s->n_taps - 1].left = 0; /* it has hung up; the next change ends it */
    return true;
}

/* A change of a source that is tapped was delivered. */
static void tell_tap(void *arg, size_t source, const char *line, size_t len)
{
    struct steer *s = arg;
    bool is_tapped = false;
    size_t n = 0;

    for (size_t i = 0; i < s->n_taps; i++) {
        struct steer_tap *t = &s->taps[i];
        bool is_last = t->left == 1;

        if (t->source == source) {
            if (t->left == 0 || !control_send(s->control, t->client, line, len, is_last) ||
                is_last)
                continue;
            t->left--;
            is_tapped = true;
        }
        s->taps[n++] = *t;
    }
    s->n_taps = n;
    s->script->sources[source].is_tapped = is_tapped;
}

/* ---- the Lua half ---- */

/* Commands that are the Lua half's. */
static bool run_command(struct steer *s, const struct request *r, size_t source, struct err *e)
{
    static const char *const words[] = { "source", "action", "letter" };
    const char *values[3];
    struct command c = { .name = r->command, .source = source, .words = words, .values = values,
                         .n_words = 3 };
    bool ok;

    for (size_t i = 0; i < 3; i++)
        values[i] = request_word(r, words[i]);
    buf_init(&c.text, ANSWER_MAX);
    buf_init(&c.json, ANSWER_MAX);
    ok = command_run(s->script, &c, e);
    if (ok)
        answer_with(s, r->client, c.is_ok, c.text.data, "result", c.json.data);
    buf_fini(&c.text);
    buf_fini(&c.json);
    return ok;
}

/* ---- commands for the program ---- */

static bool set_log_level(struct steer *s, const struct request *r, size_t source, struct err *e)
{
    static const char *const names[] = { "error", "warn", "info", "debug" };
    struct log *log = s->script->o.log;
    const char *name = request_word(r, "level");
    int level = log_level_by_name(name != NULL ? name : "");

    (void)source;
    (void)e;
    if (name == NULL) {
        answer(s, r->client, true, "the level is %s", names[log->level]);
    } else if (level < 0) {
        answer(s, r->client, false, "log-level %s: use error, warn, info or debug", name);
    } else if (log->level == (enum log_level)level) {
        answer(s, r->client, true, "the level is %s already", name);
    } else {
        log->level = (enum log_level)level;
        answer(s, r->client, true, "the level is %s", name);
    }
    return true;
}

static void begin_reload(struct steer *s, uint64_t client)
{
    struct err why;

    if (s->reload.pid != 0) {
        answer(s, client, true, "it is being reloaded already");
        return;
    }
    if (reload_begin(&s->reload, s->command->exe, s->command->argv, s->command->environment,
                     &why)) {
        s->reload_client = client;
        return;
    }
    log_text(s->script->o.log, LOG_ERROR, "not reloaded: the program goes on as it is", "error",
             why.msg);
    answer(s, client, false, "not reloaded: %s", why.msg);
}

static bool reload(struct steer *s, const struct request *r, size_t source, struct err *e)
{
    (void)source;
    (void)e;
    begin_reload(s, r->client);
    return true;
}

/* The script may have been tried by now. */
static void end_reload(struct steer *s)
{
    struct log *log = s->script->o.log;
    enum reload_state state;
    int none = 0;
    char why[1024], run[64];

    state = reload_look(&s->reload, why, sizeof why);
    if (state == RELOAD_BAD) {
        log_text(log, LOG_ERROR, "not reloaded: the program goes on with the script that it has",
                 "error", why);
        answer(s, s->reload_client, false, "not reloaded: %s", why);
    } else if (state == RELOAD_GOOD) {
        uint64_t one = 1;

        log_text(log, LOG_INFO, "reloading", NULL, NULL);
        snprintf(run, sizeof run, "\"%s\"", s->control != NULL ? control_run(s->control) : "");
        answer_with(s, s->reload_client, true, "the script is good: the program starts anew",
                    "run", run);
        if (atomic_compare_exchange_strong(&s->news->stop, &none, NEWS_RELOAD) &&
            write(s->news->stop_fd, &one, sizeof one) < 0) {
            /* a full counter is readable as well */
        }
    }
}

/* ---- leader and standby ---- */

static bool lead(struct steer *s, const struct request *r, size_t source, struct err *e)
{
    char text[LEAD_TEXT];
    enum lead_answer result = lead_ask(&s->lead, r->client, text);

    (void)source;
    (void)e;
    if (result != LEAD_LATER)
        answer(s, r->client, result == LEAD_DONE, "%s", text);
    return true;
}

void steer_lead(struct steer *s)
{
    char text[LEAD_TEXT];

    answer(s, lead_begin(&s->lead, s->script->o.pipeline, text), true, "%s", text);
}

/* ---- the status, in the log ---- */

static void report_source(struct steer *s, const struct figures_source *f)
{
    static const char *const phases[] = { "connecting", "snapshot", "following", "done" };
    char changes[32], lag[32];
    uint64_t n = 0;

    for (int op = 0; op < OP_COUNT; op++)
        n += f->changes[op];
    snprintf(changes, sizeof changes, "%" PRIu64, n);
    snprintf(lag, sizeof lag, "%.1f", figures_lag(f, clock_wall_us(), clock_mono_ms()));
    log_line(s->script->o.log, LOG_INFO, "status", 6, (struct log_field[]){
        { "source", f->name, strlen(f->name), false },
        { "phase", phases[f->phase], strlen(phases[f->phase]), false },
        { "paused", f->is_paused ? "true" : "false", f->is_paused ? 4 : 5, true },
        { "changes", changes, strlen(changes), true }, { "lag_s", lag, strlen(lag), true } }, 5);
}

/* SIGUSR1. */
static void report(struct steer *s)
{
    struct figures f;

    if (s->script->is_member) { /* the Lua half knows its workers */
        s->script->wants_report = true;
        return;
    }
    publish_now(s->publish);
    if (!figures_copy(s->publish->board, &f))
        return;
    for (size_t i = 0; i < f.n_sources; i++)
        report_source(s, &f.sources[i]);
    for (size_t i = 0; f.script_half != NULL && i < f.script_half->n_sinks; i++) {
        const struct script_figures_sink *sink = &f.script_half->sinks[i];
        bool is_well = sink->trouble.since_us == 0;

        log_line(s->script->o.log, LOG_INFO, "status", 6, (struct log_field[]){
            { "sink", sink->name, strlen(sink->name), false },
            { "failing", is_well ? "false" : "true", is_well ? 5 : 4, true } }, 2);
    }
    figures_fini(&f);
}

/* ---- requests ---- */

static bool run_letters(struct steer *s, const struct request *r, size_t source, struct err *e)
{
    if (request_word(r, "source") == NULL)
        return run_command(s, r, COMMAND_ALL, e);
    return !find_source(s, r, &source) || run_command(s, r, source, e);
}

static bool show_figures(struct steer *s, const struct request *r, size_t source, struct err *e)
{
    (void)source;
    (void)e;
    publish_now(s->publish);
    answer(s, r->client, true, "%s", ""); /* the thread answers */
    return true;
}

struct steer_command {
    const char *name;
    bool has_source;
    bool is_of_all;       /* a standby takes it, too, and a member of a group */
    const char *words[6]; /* that it takes */
    bool (*run)(struct steer *s, const struct request *r, size_t source, struct err *e);
};

static const struct steer_command commands[] = {
    { "status", false, true, { NULL }, show_figures },
    { "pause", true, false, { "source", NULL }, pause_source },
    { "resume", true, false, { "source", NULL }, pause_source },
    { "poll", true, false, { "source", NULL }, poll_source },
    { "snapshot", true, false, { "source", "where", NULL }, reread },
    { "tap", true, false, { "source", "count", NULL }, tap },
    { "skip", true, false, { "source", NULL }, run_command },
    { "dead-letters", false, false, { "action", "source", "letter", NULL }, run_letters },
    { "reload", false, true, { NULL }, reload },
    { "log-level", false, true, { "level", NULL }, set_log_level },
    { "lead", false, true, { NULL }, lead },
};

#define N_COMMANDS (sizeof commands / sizeof *commands)

static const struct steer_command *find_command(const char *name)
{
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

/* Commands need the name under which the source is kept. */
static bool is_named(struct steer *s, const struct request *r, size_t source)
{
    if (s->script->sources[source].is_named)
        return true;
    answer(s, r->client, false, "%s has not reached its server yet: try again then",
           name_of(s, source));
    return false;
}

static bool handle(struct steer *s, const struct request *r, struct err *e)
{
    const struct steer_command *c = find_command(r->command);
    char text[LEAD_TEXT];
    const char *unknown;
    size_t source = 0, len = 0;

    if (c == NULL) {
        answer(s, r->client, false, "%s: the program that runs knows no such command", r->command);
        return true;
    }
    unknown = request_unknown(r, c->words, &len);
    if (unknown != NULL) {
        answer(s, r->client, false, "%s takes no %.*s", c->name, (int)len, unknown);
        return true;
    }
    if (!c->is_of_all && lead_is_elsewhere(&s->lead, s->script->o.pipeline, text)) {
        answer(s, r->client, false, "%s", text);
        return true;
    }
    if (c->has_source && (!find_source(s, r, &source) || !is_named(s, r, source)))
        return true;
    return c->run(s, r, source, e);
}

bool steer_turn(struct steer *s, struct err *e)
{
    char text[LEAD_TEXT] = "";
    struct request *r;
    uint64_t n;

    if (s->news == NULL)
        return true;
    if (read(s->news->fd, &n, sizeof n) < 0 && s->reload.pid == 0 && s->lead.client == 0)
        return true; /* nothing is new */
    if (atomic_exchange(&s->news->reload, false))
        begin_reload(s, 0);
    if (atomic_exchange(&s->news->report, false))
        report(s);
    while (s->control != NULL && (r = control_take(s->control)) != NULL) {
        bool ok = handle(s, r, e);

        request_free(r);
        if (!ok)
            return false;
    }
    if (s->reload.pid != 0)
        end_reload(s);
    answer(s, lead_turn(&s->lead, text), false, "%s", text);
    return true;
}

int64_t steer_wait_ms(const struct steer *s)
{
    return reload_wait_ms(&s->reload);
}

/* ---- birth and death ---- */

void steer_open(struct steer *s, const struct control_options *o)
{
    struct err e;

    char *folder = file_folder(o->state);
    struct path_why why;

    if (folder != NULL && !file_make_folder(folder, 0700, &why)) {
        /* then it cannot be listened there, which is told */
    }
    free(folder);
    s->script->tell_tap = tell_tap;
    s->script->tap_arg = s;
    if (s->rereads == NULL)
        s->rereads = calloc(s->script->n_sources + 1, sizeof *s->rereads);
    s->control = s->rereads != NULL ? control_new(o, &e) : (err_memory(&e), NULL);
    if (s->control == NULL)
        log_text(s->script->o.log, LOG_WARN, "pgcdc-lua ctl cannot reach this program", "error",
                 e.msg);
}

void steer_close(struct steer *s)
{
    control_free(s->control);
    s->control = NULL;
    reload_fini(&s->reload);
    free(s->taps);
    s->taps = NULL;
    s->n_taps = s->cap_taps = 0;
    free(s->rereads);
    s->rereads = NULL;
}
