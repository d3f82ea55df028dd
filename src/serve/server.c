/* server.c -- answers over HTTP how the program is: --listen.
 * SPDX-License-Identifier: MIT */
#include "serve/server.h"

#include "base/clock.h"
#include "base/text.h"
#include "listen/listen.h"
#include "serve/address.h"
#include "serve/metrics.h"
#include "serve/page.h"
#include "serve/status.h"
#include "serve/token.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define TICK_MS 1000
#define ANSWER_MAX ((size_t)64 << 20)
#define CTL "/ctl/"
#define PLAIN "text/plain; charset=utf-8"
#define JSON "application/json; charset=utf-8"

struct server {
    struct server_options o;
    struct figures_board *board; /* borrowed */
    struct control *_Atomic control; /* borrowed; NULL: nobody takes commands */
    struct address address;
    char name[sizeof(struct sockaddr_un) + 80]; /* of the address */
    struct token token;
    const struct listen_module *module;
    int fd, stop_fd;             /* fd: until <listen> has it */
    struct listen *listen;
    pthread_t thread;
    bool has_thread;
    /* the thread's: */
    struct history history;
    bool was_ready, has_looked;
    int64_t since_us;            /* when <was_ready> became what it is */
};

/* ---- the module ---- */

/* Returns what the module exports, or NULL and why not. It stays loaded. */
static const struct listen_module *load(const char *folder, char why[], size_t size)
{
    const struct listen_module *m;
    char path[PATH_MAX];
    void *library;

    if (snprintf(path, sizeof path, "%s/listen.so", folder) >= (int)sizeof path ||
        access(path, F_OK) != 0) {
        snprintf(why, size, "--listen needs the module listen.so, which is not installed: apt "
                 "install pgcdc-lua-listen, or libmicrohttpd-dev and make");
        return NULL;
    }
    library = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    m = library != NULL ? dlsym(library, LISTEN_SYMBOL) : NULL;
    if (m == NULL) {
        snprintf(why, size, "--listen: the module listen.so cannot be loaded: %s", dlerror());
    } else if (m->abi != LISTEN_ABI) {
        snprintf(why, size, "--listen: listen.so is of another version of pgcdc-lua (interface %u, "
                 "this program has %u): upgrade both", m->abi, LISTEN_ABI);
        m = NULL;
    }
    return m;
}

void server_put_version(const char *modules_dir, struct buf *to)
{
    char path[PATH_MAX], why[PATH_MAX + 400];
    const struct listen_module *m;

    if (snprintf(path, sizeof path, "%s/listen.so", modules_dir) >= (int)sizeof path ||
        access(path, F_OK) != 0)
        return;
    m = load(modules_dir, why, sizeof why);
    buf_printf(to, "listen: %s\n", m != NULL ? m->version() : why);
}

/* ---- answers ---- */

/* What is seen at one moment. */
struct view {
    struct figures figures;
    struct health health;
    struct status status;
};

static void close_view(struct view *v)
{
    health_fini(&v->health);
    figures_fini(&v->figures);
}

/* False: nothing is known yet, or memory is out. */
static bool open_view(struct server *s, struct view *v)
{
    int64_t now_us = clock_wall_us(), now_ms = clock_mono_ms();

    figures_watch(s->board);
    if (!figures_copy(s->board, &v->figures))
        return false;
    if (!health_find(&v->health, &v->figures, &s->o.health, now_us, now_ms)) {
        figures_fini(&v->figures);
        return false;
    }
    if (!s->has_looked || s->was_ready != v->health.is_ready) {
        s->since_us = s->has_looked ? now_us : v->figures.began_us;
        s->was_ready = v->health.is_ready;
        s->has_looked = true;
    }
    v->status = (struct status){ &v->figures, &v->health, &s->o.health, &s->history, s->since_us,
                                 now_us, now_ms };
    return true;
}

static void set_text(struct listen_answer *a, unsigned status, const char *text)
{
    a->status = status;
    a->type = PLAIN;
    a->body = strdup(text);
    a->len = a->body != NULL ? strlen(a->body) : 0;
}

/* Gives what <b> has as the body. */
static void take_body(struct listen_answer *a, unsigned status, const char *type, struct buf *b)
{
    a->len = b->len;
    a->body = buf_take(b);
    a->type = type;
    a->status = status;
    if (a->body == NULL)
        set_text(a, 500, "out of memory\n");
}

static void put_event(struct buf *to, const struct status *status)
{
    buf_puts(to, "data: ");
    status_put(to, status);
    buf_putc(to, '\n');
}

enum path { PATH_HEALTH, PATH_READY, PATH_METRICS, PATH_STATUS, PATH_EVENTS, PATH_PAGE, PATH_NONE };

static enum path find_path(const char *text)
{
    static const char *const texts[] = { "/healthz", "/readyz", "/metrics", "/status", "/events",
                                         "/" };

    for (enum path p = PATH_HEALTH; p < PATH_NONE; p++)
        if (strcmp(texts[p], text) == 0)
            return p;
    return PATH_NONE;
}

static void answer_view(struct server *s, enum path path, const struct listen_request *r,
                        struct listen_answer *a)
{
    bool is_open = r->accept != NULL && strstr(r->accept, "application/openmetrics-text") != NULL;
    struct view v;
    struct buf b;

    if (!open_view(s, &v)) {
        set_text(a, 503, "starting\n");
        return;
    }
    buf_init(&b, ANSWER_MAX);
    switch (path) {
    case PATH_METRICS:
        metrics_put(&b, &v.figures, &v.health, is_open, v.status.now_us, v.status.now_ms);
        take_body(a, 200, is_open ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
                                  : "text/plain; version=0.0.4; charset=utf-8", &b);
        break;
    case PATH_READY:
        status_put_ready(&b, &v.status);
        take_body(a, v.health.is_ready ? 200 : 503, JSON, &b);
        break;
    case PATH_EVENTS:
        put_event(&b, &v.status);
        take_body(a, 200, "text/event-stream; charset=utf-8", &b);
        a->is_stream = a->status == 200;
        break;
    default:
        status_put(&b, &v.status);
        take_body(a, 200, JSON, &b);
    }
    buf_fini(&b);
    close_view(&v);
}

/* A page of somebody else's, in a browser on this machine, could lead a name of its own here: so
 * without a token only addresses and localhost are served. */
static bool is_safe_host(const struct server *s, const char *host)
{
    char name[INET6_ADDRSTRLEN + 1], binary[16];
    size_t len;

    if (s->token.text[0] != '\0' || s->address.path != NULL || host == NULL)
        return true;
    if (*host == '[') {
        host++;
        len = strcspn(host, "]");
    } else {
        len = strcspn(host, ":");
    }
    if (len >= sizeof name)
        return false;
    memcpy(name, host, len);
    name[len] = '\0';
    return strcasecmp(name, "localhost") == 0 || inet_pton(AF_INET, name, binary) == 1 ||
           inet_pton(AF_INET6, name, binary) == 1;
}

static void answer_health(struct server *s, struct listen_answer *a)
{
    if (figures_watch(s->board) < HEALTH_STALLED_MS)
        set_text(a, 200, "ok\n");
    else
        set_text(a, 503, "the loop does not turn\n");
}

/* ---- commands ---- */

/* Appends a word, of which + is a blank and %XX a byte. */
static void put_word(struct buf *to, const char *p, const char *end)
{
    for (; p < end; p++) {
        int high = p + 2 < end && *p == '%' ? text_hex_digit((char)tolower(p[1])) : -1;
        int low = high >= 0 ? text_hex_digit((char)tolower(p[2])) : -1;

        if (low >= 0 && high * 16 + low > 0)
            buf_putc(to, (char)(high * 16 + low));
        else
            buf_putc(to, *p == '+' ? ' ' : *p);
        p += low >= 0 ? 2 : 0;
    }
    buf_putc(to, '\0');
}

/* The text of a request for what a client has posted. */
static void put_request(struct buf *to, const struct listen_request *r)
{
    const char *p = r->body, *end = r->body != NULL ? p + r->body_len : p;

    request_put(to, r->path + strlen(CTL));
    while (p < end) {
        const char *next = memchr(p, '&', (size_t)(end - p));

        next = next != NULL ? next : end;
        if (next > p)
            put_word(to, p, next);
        p = next + 1;
    }
    request_put_end(to);
}

/* 200: done; 202: it will be; 409: it cannot be. */
static void answer_command(struct server *s, const struct listen_request *r,
                           struct listen_answer *a)
{
    struct control *control = atomic_load(&s->control);
    struct buf text, said;
    struct request *request;
    const char *why;

    buf_init(&text, REQUEST_MAX);
    buf_init(&said, ANSWER_MAX);
    put_request(&text, r);
    request = buf_ok(&text) && request_look(text.data, text.len, &why) == REQUEST_WHOLE
                  ? request_new(&text) : NULL;
    if (request == NULL || control == NULL || strcmp(request->command, "tap") == 0) {
        set_text(a, request == NULL ? 400 : control == NULL ? 503 : 501,
                 request == NULL ? "this is no command\n" : control == NULL ? "starting\n" :
                 "only pgcdc-lua ctl can tap\n");
        request_free(request);
    } else {
        control_call(control, request, &said);
        buf_add(&said, "", 0);
        take_body(a, said.data == NULL ? 503 : strstr(said.data, "\"ok\":true") == NULL ? 409 :
                  strstr(said.data, "\"pending\":true") != NULL ? 202 : 200, JSON, &said);
    }
    buf_fini(&text);
    buf_fini(&said);
}

/* A page of somebody else's can make a browser send a login that it knows, but no "Bearer": so only
 * that may command. */
static void answer_post(struct server *s, const struct listen_request *r, struct listen_answer *a)
{
    if (r->authorization == NULL || strncasecmp(r->authorization, "Bearer ", 7) != 0) {
        set_text(a, 401, "a command needs the token as Authorization: Bearer TOKEN\n");
    } else if (strcmp(r->method, "POST") != 0) {
        set_text(a, 405, "only POST\n");
        a->allow = "POST";
    } else if (r->is_too_long) {
        set_text(a, 413, "a command has at most 64 kB, and says how many\n");
    } else {
        answer_command(s, r, a);
    }
}

static void answer(void *arg, const struct listen_request *r, struct listen_answer *a)
{
    enum path path = find_path(r->path);
    struct server *s = arg;
    const char *html;

    if (!token_is_shown(&s->token, r->authorization)) {
        set_text(a, 401, "this needs the token of --listen-token-file\n");
        a->authenticate = "Basic realm=\"pgcdc-lua\", charset=\"UTF-8\"";
    } else if (!is_safe_host(s, r->host)) {
        set_text(a, 403, "use the address, or localhost, in the place of the name\n");
    } else if (s->token.text[0] != '\0' && strncmp(r->path, CTL, strlen(CTL)) == 0) {
        answer_post(s, r, a);
    } else if (path == PATH_NONE) {
        set_text(a, 404, "there is /, /status, /metrics, /healthz and /readyz\n");
    } else if (strcmp(r->method, "GET") != 0 && strcmp(r->method, "HEAD") != 0) {
        set_text(a, 405, "only GET and HEAD\n");
        a->allow = "GET, HEAD";
    } else if (path == PATH_HEALTH) {
        answer_health(s, a);
    } else if (path == PATH_PAGE) {
        struct buf b;

        buf_init(&b, ANSWER_MAX);
        html = page_html(&a->len);
        buf_add(&b, html, a->len);
        take_body(a, 200, "text/html; charset=utf-8", &b);
        buf_fini(&b);
    } else {
        answer_view(s, path, r, a);
    }
}

/* ---- the thread ---- */

/* Once a second: looks whether the loop turns, keeps the history, tells the streams. */
static void tick(struct server *s)
{
    struct view v;
    struct buf b;

    if (!open_view(s, &v))
        return;
    history_add(&s->history, &v.figures, v.status.now_ms);
    if (s->module->has_streams(s->listen)) {
        buf_init(&b, ANSWER_MAX);
        put_event(&b, &v.status);
        if (buf_ok(&b))
            s->module->tell(s->listen, b.data, b.len);
        buf_fini(&b);
    }
    close_view(&v);
}

static bool is_stopped(const struct server *s)
{
    uint64_t n;

    return read(s->stop_fd, &n, sizeof n) == sizeof n;
}

static void *run_thread(void *arg)
{
    struct server *s = arg;
    int64_t due = 0;

    pthread_setname_np(pthread_self(), "listen");
    while (!is_stopped(s)) {
        int64_t now = clock_mono_ms();

        if (now >= due) {
            tick(s);
            due = now + TICK_MS;
        }
        s->module->turn(s->listen, (int)(due - now), s->stop_fd);
    }
    return NULL;
}

/* ---- birth and death ---- */

static bool open_server(struct server *s, struct err *e)
{
    char why[PATH_MAX + 400];

    if (!address_read(&s->address, s->o.listen, e))
        return false;
    if (!s->address.is_local && s->o.token_file == NULL)
        return err_set(e, ERR_USAGE, "--listen %s: others can reach this address, so "
                       "--listen-token-file FILE is required, with a secret that they must show",
                       s->o.listen);
    if (s->o.token_file != NULL && !token_read(&s->token, s->o.token_file, e))
        return false;
    if ((s->module = load(s->o.modules_dir, why, sizeof why)) == NULL)
        return err_set(e, ERR_USAGE, "%s", why);
    s->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (s->stop_fd < 0)
        return err_set(e, ERR_INTERNAL, "eventfd: %s", strerror(errno));
    if ((s->fd = address_listen(&s->address, e)) < 0)
        return false;
    address_write(&s->address, s->fd, s->name, sizeof s->name);
    return true;
}

struct server *server_new(const struct server_options *o, struct figures_board *board,
                          struct err *e)
{
    struct server *s = calloc(1, sizeof *s);

    if (s == NULL) {
        err_memory(e);
        return NULL;
    }
    s->o = *o;
    s->board = board;
    s->fd = s->stop_fd = -1;
    if (open_server(s, e))
        return s;
    server_free(s);
    return NULL;
}

void server_set_control(struct server *s, struct control *control)
{
    atomic_store(&s->control, control);
}

const char *server_address(const struct server *s)
{
    return s->name;
}

bool server_start(struct server *s, struct err *e)
{
    const struct listen_options o = { s->fd, answer, s };
    int rc;

    s->listen = s->module->open(&o);
    if (s->listen == NULL)
        return err_set(e, ERR_INTERNAL, "--listen %s: the module cannot serve", s->o.listen);
    s->fd = -1;
    rc = pthread_create(&s->thread, NULL, run_thread, s);
    if (rc != 0)
        return err_set(e, ERR_INTERNAL, "cannot start a thread: %s", strerror(rc));
    s->has_thread = true;
    return true;
}

void server_free(struct server *s)
{
    uint64_t one = 1;

    if (s == NULL)
        return;
    if (s->has_thread) {
        if (write(s->stop_fd, &one, sizeof one) < 0) {
            /* a full counter is readable as well */
        }
        pthread_join(s->thread, NULL);
    }
    if (s->listen != NULL)
        s->module->close(s->listen);
    if (s->fd >= 0)
        close(s->fd);
    if (s->fd >= 0 || s->listen != NULL)
        address_remove(&s->address);
    if (s->stop_fd >= 0)
        close(s->stop_fd);
    history_fini(&s->history);
    free(s);
}
