/* ctl_show.c -- shows what a running program has answered.
 * SPDX-License-Identifier: MIT */
#include "cli/ctl_show.h"

#include "base/clock.h"
#include "base/text.h"
#include "serve/request.h"

#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#define RED "\033[31m"
#define GREEN "\033[32m"
#define YELLOW "\033[33m"
#define BOLD "\033[1m"
#define PLAIN "\033[0m"
#define NAME_MAX_WIDTH 40

/* ---- JSON ---- */

static const char *text_of(const json_t *o, const char *key)
{
    const char *text = json_string_value(json_object_get(o, key));

    return text != NULL ? text : "";
}

static double number_of(const json_t *o, const char *key)
{
    return json_number_value(json_object_get(o, key));
}

static bool is_true(const json_t *o, const char *key)
{
    return json_is_true(json_object_get(o, key));
}

/* The sum of an object's numbers. */
static double sum_of(const json_t *o)
{
    double sum = 0;
    const char *key;
    json_t *n;

    json_object_foreach((json_t *)o, key, n)
        sum += json_number_value(n);
    return sum;
}

/* ---- lines ---- */

/* True if standard output can show colours, and nobody has asked for none (no-color.org). */
static bool shows_colours(void)
{
    const char *no_colour = getenv("NO_COLOR"), *term = getenv("TERM");

    return isatty(STDOUT_FILENO) == 1 && (no_colour == NULL || *no_colour == '\0') &&
           (term == NULL || strcmp(term, "dumb") != 0);
}

/* What is shown, and how. */
struct show {
    struct buf text;
    bool has_colours;
    size_t columns, rows;  /* of the terminal; 0: there is none */
    size_t width;          /* characters of the line in hand */
    size_t n_lines;
    const json_t *before;  /* the answer before, or NULL; <seconds> ago */
    double seconds;
};

static bool has_room(const struct show *s)
{
    return s->rows == 0 || s->n_lines + 1 < s->rows;
}

/* Appends text, of which controls are written out, cut where the terminal ends. */
static void put(struct show *s, const char *text)
{
    size_t len = strlen(text);
    struct buf plain;
    const char *p;

    buf_init(&plain, 1 << 20);
    text_put_plain(&plain, text, len);
    p = plain.data != NULL ? plain.data : "";
    for (size_t n = plain.len; has_room(s) && n > 0;) {
        size_t size = text_utf8_length(p, n);

        size = size > 0 ? size : 1;
        if (s->columns > 0 && s->width >= s->columns)
            break;
        buf_add(&s->text, p, size);
        s->width++;
        p += size;
        n -= size;
    }
    buf_fini(&plain);
}

static void put_format(struct show *s, const char *format, ...) WARN_PRINTF(2, 3);

static void put_format(struct show *s, const char *format, ...)
{
    char text[4096];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    put(s, text);
}

static void colour(struct show *s, const char *code)
{
    if (s->has_colours && has_room(s))
        buf_puts(&s->text, code);
}

static void end_line(struct show *s)
{
    if (has_room(s)) {
        if (s->columns > s->width) /* else it would take away the last character */
            buf_puts(&s->text, "\033[K");
        buf_putc(&s->text, '\n');
    }
    s->n_lines++;
    s->width = 0;
}

/* A span such as "3 d 4 h", "12 min", "0.4 s". */
static void put_span(struct show *s, double seconds)
{
    if (seconds < 10)
        put_format(s, "%.1f s", seconds);
    else if (seconds < 120)
        put_format(s, "%.0f s", seconds);
    else if (seconds < 7200)
        put_format(s, "%.0f min", seconds / 60);
    else if (seconds < 172800)
        put_format(s, "%.0f h", seconds / 3600);
    else
        put_format(s, "%.0f d", seconds / 86400);
}

/* Fills up to a column. */
static void pad_to(struct show *s, size_t column)
{
    do
        put(s, " ");
    while (s->width < column && (s->columns == 0 || s->width < s->columns) && has_room(s));
}

/* ---- the status ---- */

static void put_state(struct show *s, const json_t *source)
{
    const json_t *snapshot = json_object_get(source, "snapshot");
    const json_t *again = json_object_get(source, "snapshot_again");
    const char *phase = text_of(source, "phase");

    if (is_true(source, "paused_by_user"))
        put(s, "paused");
    else if (is_true(source, "paused"))
        put(s, "waits");
    else if (strcmp(phase, "snapshot") == 0)
        put_format(s, "snapshot %.0f%%", number_of(snapshot, "progress") * 100);
    else if (json_is_object(again))
        put_format(s, "again %.0f%%", number_of(again, "progress") * 100);
    else
        put(s, phase);
}

/* How many changes of the source with this number there were in the answer before. */
static double changes_before(const struct show *s, size_t i, const char *name)
{
    const json_t *o = json_array_get(json_object_get(s->before, "sources"), i);

    return strcmp(text_of(o, "name"), name) == 0 ? sum_of(json_object_get(o, "changes")) : -1;
}

static void put_source(struct show *s, const json_t *source, size_t i, size_t width)
{
    double changes = sum_of(json_object_get(source, "changes")), lag, before;
    const json_t *position = json_object_get(source, "position");

    lag = number_of(source, "lag_seconds");
    before = s->before != NULL ? changes_before(s, i, text_of(source, "name")) : -1;
    put_format(s, "%.*s", NAME_MAX_WIDTH, text_of(source, "name"));
    pad_to(s, width);
    put(s, text_of(source, "capture"));
    pad_to(s, width + 11);
    if (is_true(source, "paused"))
        colour(s, YELLOW);
    put_state(s, source);
    colour(s, PLAIN);
    pad_to(s, width + 25);
    put_span(s, lag);
    pad_to(s, width + 34);
    put_format(s, "%.0f", changes);
    pad_to(s, width + 47);
    if (before >= 0 && s->seconds > 0)
        put_format(s, "%.0f", changes > before ? (changes - before) / s->seconds : 0);
    else
        put(s, "-");
    pad_to(s, width + 57);
    if (json_is_null(json_object_get(position, "saved")))
        put(s, "-");
    else
        put_span(s, number_of(position, "age_seconds"));
    end_line(s);
}

static void put_sources(struct show *s, const json_t *status)
{
    const json_t *sources = json_object_get(status, "sources");
    size_t width = 6, i;
    json_t *source;

    json_array_foreach(sources, i, source) {
        size_t len = strlen(text_of(source, "name"));

        len = len < NAME_MAX_WIDTH ? len : NAME_MAX_WIDTH;
        width = len > width ? len : width;
    }
    width += 2;
    colour(s, BOLD);
    put(s, "SOURCE");
    pad_to(s, width);
    put(s, "CAPTURE    STATE         LAG      CHANGES      PER SECOND");
    pad_to(s, width + 57);
    put(s, "SAVED");
    colour(s, PLAIN);
    end_line(s);
    json_array_foreach(sources, i, source)
        put_source(s, source, i, width);
}

/* Ends a line with how much is left, where that is known. */
static void end_with_left(struct show *s, const json_t *o)
{
    if (json_is_integer(json_object_get(o, "records_left")))
        put_format(s, ", %.0f records left", number_of(o, "records_left"));
    end_line(s);
}

/* Of topics that are read. */
static void put_partitions(struct show *s, const json_t *status)
{
    size_t i, k;
    json_t *source, *p;

    json_array_foreach(json_object_get(status, "sources"), i, source)
        json_array_foreach(json_object_get(source, "partitions"), k, p) {
            put_format(s, "%s, partition %.0f", text_of(p, "topic"), number_of(p, "partition"));
            end_with_left(s, p);
        }
}

/* Of a member. */
static void put_workers(struct show *s, const json_t *status)
{
    size_t i;
    json_t *w;

    json_array_foreach(json_object_get(status, "workers"), i, w) {
        put_format(s, "worker %s: ", text_of(w, "name"));
        colour(s, is_true(w, "ready") ? GREEN : YELLOW);
        put_format(s, "pid %.0f, %sready", number_of(w, "pid"), is_true(w, "ready") ? "" : "not ");
        colour(s, PLAIN);
        put_format(s, ", restarts: %.0f", number_of(w, "restarts"));
        end_with_left(s, w);
    }
}

static void put_sinks(struct show *s, const json_t *status)
{
    size_t i;
    json_t *sink;

    json_array_foreach(json_object_get(status, "sinks"), i, sink) {
        const json_t *trouble = json_object_get(sink, "trouble");
        bool fails = json_is_object(trouble);

        put_format(s, "sink %s (%s): ", text_of(sink, "name"), text_of(sink, "kind"));
        colour(s, fails ? RED : GREEN);
        if (fails)
            put_format(s, "fails, %.0f tries: %s", number_of(trouble, "attempts"),
                       text_of(trouble, "message"));
        else
            put(s, "well");
        colour(s, PLAIN);
        end_line(s);
    }
}

static void put_problems(struct show *s, const json_t *status)
{
    size_t i;
    json_t *p;

    json_array_foreach(json_object_get(status, "problems"), i, p) {
        const char *source = text_of(p, "source");

        colour(s, is_true(p, "blocking") ? RED : YELLOW);
        put_format(s, "! %s%s%s: %s", source, *source != '\0' ? ", " : "", text_of(p, "reason"),
                   text_of(p, "message"));
        colour(s, PLAIN);
        end_line(s);
    }
    json_array_foreach(json_object_get(status, "holding"), i, p) {
        put_format(s, "held back by %s %s: %s", text_of(p, "kind"), text_of(p, "name"),
                   text_of(p, "message"));
        end_line(s);
    }
}

static void put_head(struct show *s, const json_t *status)
{
    const json_t *loop = json_object_get(status, "loop");
    bool is_ready = is_true(status, "ready");

    colour(s, BOLD);
    put(s, text_of(status, "script"));
    colour(s, PLAIN);
    put_format(s, ", pgcdc-lua %s: ", text_of(status, "program"));
    colour(s, is_ready ? GREEN : RED);
    put(s, is_ready ? "ready" : is_true(status, "live") ? "not ready" : "does not turn");
    colour(s, PLAIN);
    put_format(s, " since %.19s", text_of(status, "since"));
    end_line(s);
    put_format(s, "it %s, for ", text_of(loop, "work"));
    put_span(s, number_of(loop, "work_seconds"));
    put_format(s, "; %.1f MB, of that Lua %.1f; state file %.1f MB",
               number_of(status, "resident_bytes") / 1e6,
               number_of(status, "lua_memory_bytes") / 1e6,
               number_of(status, "state_file_bytes") / 1e6);
    end_line(s);
}

static void put_process(struct show *s, const json_t *process)
{
    put_format(s, "%s, pid %.0f", text_of(process, "host"), number_of(process, "pid"));
}

/* Where the state is in a database: who leads. */
static void put_role(struct show *s, const json_t *status)
{
    const json_t *lease = json_object_get(status, "lease");
    const json_t *leader = json_object_get(lease, "leader");
    const json_t *standby = json_object_get(lease, "standby");

    if (!json_is_object(lease))
        return;
    if (strcmp(text_of(status, "role"), "leader") == 0) {
        put_format(s, "leader, epoch %.0f; lease of %.0f s, renewed ", number_of(lease, "epoch"),
                   number_of(lease, "seconds"));
        put_span(s, number_of(lease, "renewed_seconds_ago"));
        put(s, " ago; ");
        if (json_is_object(standby))
            put_process(s, standby);
        put(s, json_is_object(standby) ? ", waits" : "nobody waits");
    } else {
        put(s, "standby; ");
        if (json_is_object(leader))
            put_process(s, leader);
        put_format(s, json_is_object(leader) ? ", leads, epoch %.0f" : "who leads is not known yet",
                   number_of(lease, "epoch"));
    }
    end_line(s);
}

static void put_status(struct show *s, const json_t *status)
{
    put_head(s, status);
    put_role(s, status);
    end_line(s);
    put_sources(s, status);
    put_partitions(s, status);
    put_workers(s, status);
    put_problems(s, status);
    put_sinks(s, status);
}

/* ---- one answer ---- */

/* Parses the first line of an answer. Owned, or NULL. */
static json_t *parse(const char *line, struct err *e)
{
    json_t *answer = json_loads(line, JSON_ALLOW_NUL, NULL);

    if (answer != NULL && json_integer_value(json_object_get(answer, "ctl")) == REQUEST_VERSION)
        return answer;
    json_decref(answer);
    err_set(e, ERR_SCRIPT, "the program that runs is of another version than pgcdc-lua ctl: use "
            "the one that it was started from, or start it anew");
    return NULL;
}

bool ctl_show_answer(const char *line, bool as_json, bool *is_ok, char **run, struct err *e)
{
    json_t *answer = parse(line, e), *status;
    struct show s = { .has_colours = shows_colours() };
    const char *name, *text;

    if (answer == NULL)
        return false;
    *is_ok = is_true(answer, "ok");
    status = json_object_get(answer, "status");
    text = text_of(answer, *is_ok ? "text" : "error");
    name = json_string_value(json_object_get(answer, "run"));
    *run = name != NULL ? strdup(name) : NULL;
    buf_init(&s.text, 16 << 20);
    if (as_json) {
        puts(line);
    } else if (json_is_object(status)) {
        put_status(&s, status);
        fwrite(s.text.data, 1, s.text.len, stdout);
    } else if (*text != '\0') {
        fprintf(*is_ok ? stdout : stderr, "%s%s\n", *is_ok ? "" : "pgcdc-lua: ", text);
    }
    fflush(stdout);
    buf_fini(&s.text);
    json_decref(answer);
    return true;
}

void ctl_show_error(const char *text)
{
    struct json_text j;
    struct buf b;

    buf_init(&b, 1 << 16);
    request_answer(&j, &b, NULL, false, text);
    request_end(&j);
    if (buf_ok(&b))
        fputs(b.data, stdout);
    buf_fini(&b);
}

bool ctl_show_is_run(const char *line, const char *run)
{
    struct err ignored;
    json_t *answer = parse(line, &ignored);
    bool is = answer != NULL && strcmp(text_of(answer, "run"), run) == 0;

    json_decref(answer);
    return is;
}

/* ---- top ---- */

struct ctl_show_top {
    bool as_json, is_terminal, has_keys;
    struct termios before;
    json_t *last;         /* owned: the answer that is shown, */
    int64_t last_ms;      /* of this time */
    json_t *shown_before; /* owned: the one before it */
    double seconds;       /* between the two */
    char error[2048];     /* in the place of an answer */
};

static volatile sig_atomic_t has_ended, is_resized;

static void on_signal(int sig)
{
    if (sig == SIGWINCH)
        is_resized = 1;
    else
        has_ended = 1;
}

struct ctl_show_top *ctl_show_top_new(bool as_json)
{
    const struct sigaction act = { .sa_handler = on_signal };
    struct ctl_show_top *t = calloc(1, sizeof *t);
    struct termios keys;

    if (t == NULL)
        return NULL;
    t->as_json = as_json;
    t->is_terminal = !as_json && isatty(STDOUT_FILENO) == 1;
    if (!t->is_terminal)
        return t;
    sigaction(SIGINT, &act, NULL);
    sigaction(SIGTERM, &act, NULL);
    sigaction(SIGWINCH, &act, NULL);
    t->has_keys = tcgetattr(STDIN_FILENO, &t->before) == 0;
    if (t->has_keys) {
        keys = t->before;
        keys.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
        tcsetattr(STDIN_FILENO, TCSANOW, &keys);
    }
    fputs("\033[?1049h\033[?25l", stdout); /* another screen, without a cursor */
    return t;
}

void ctl_show_top_free(struct ctl_show_top *t)
{
    if (t == NULL)
        return;
    if (t->is_terminal) {
        fputs("\033[?25h\033[?1049l", stdout);
        fflush(stdout);
    }
    if (t->has_keys)
        tcsetattr(STDIN_FILENO, TCSANOW, &t->before);
    json_decref(t->last);
    json_decref(t->shown_before);
    free(t);
}

/* Draws what it has. */
static bool draw(struct ctl_show_top *t)
{
    struct show s = { .has_colours = shows_colours(), .seconds = t->seconds,
                      .before = json_object_get(t->shown_before, "status") };
    struct winsize size;
    bool ok;

    buf_init(&s.text, 16 << 20);
    if (t->is_terminal && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0) {
        s.columns = size.ws_col > 0 ? size.ws_col : 80;
        s.rows = size.ws_row > 0 ? size.ws_row : 24;
    }
    if (t->is_terminal)
        buf_puts(&s.text, "\033[H");
    if (t->error[0] != '\0') {
        colour(&s, RED);
        put(&s, t->error);
        colour(&s, PLAIN);
        end_line(&s);
    } else {
        put_status(&s, json_object_get(t->last, "status"));
    }
    if (t->is_terminal)
        buf_puts(&s.text, "\033[Jq ends");
    else
        buf_putc(&s.text, '\n');
    ok = fwrite(s.text.data, 1, s.text.len, stdout) == s.text.len && fflush(stdout) == 0;
    buf_fini(&s.text);
    return ok;
}

bool ctl_show_top(struct ctl_show_top *t, const char *line, const char *error)
{
    struct err e = { .code = ERR_NONE };
    json_t *answer = line != NULL ? parse(line, &e) : NULL;
    int64_t now = clock_mono_ms();

    if (t->as_json) {
        if (answer == NULL)
            ctl_show_error(line != NULL ? e.msg : error);
        else
            puts(line);
        json_decref(answer);
        return fflush(stdout) == 0;
    }
    t->error[0] = '\0';
    if (answer == NULL) {
        snprintf(t->error, sizeof t->error, "%s", line != NULL ? e.msg : error);
    } else {
        json_decref(t->shown_before);
        t->shown_before = t->last;
        t->last = answer;
        t->seconds = (double)(now - t->last_ms) / 1000;
        t->last_ms = now;
    }
    return draw(t);
}

bool ctl_show_top_wait(struct ctl_show_top *t, double seconds)
{
    int64_t until = clock_mono_ms() + (int64_t)(seconds * 1000), left;

    while (!has_ended && (left = until - clock_mono_ms()) > 0) {
        struct pollfd p = { .fd = t->has_keys ? STDIN_FILENO : -1, .events = POLLIN };
        char key;

        if (poll(&p, 1, (int)left) > 0) {
            if (read(STDIN_FILENO, &key, 1) != 1)
                t->has_keys = false;
            else if (key == 'q' || key == 'Q')
                return false;
        }
        if (is_resized) {
            is_resized = 0;
            if (!draw(t))
                return false;
        }
    }
    return !has_ended;
}
