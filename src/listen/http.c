/* http.c -- HTTP over a socket that listens, by libmicrohttpd.
 *
 * One thread, which is the program's, does all. A client costs a bounded part of memory, and is cut
 * off when it neither sends nor takes anything for some seconds; of too many clients the newest
 * wait. Only the short body of a POST is read: whoever sends another is answered before it.
 *
 * SPDX-License-Identifier: MIT */
#include "listen/listen.h"

#include <microhttpd.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_CLIENTS 200u
#define MOST_STREAMS 32u
#define IDLE_SECONDS 10u
#define CLIENT_BYTES ((size_t)16 << 10) /* for the head of a request */
#define BLOCK_BYTES ((size_t)16 << 10)  /* of a stream that are sent at once */

struct stream {
    struct listen *listen;
    struct stream *next, *before;
    struct MHD_Connection *client;
    char *bytes;           /* owned: what is being sent */
    size_t len, done;
    bool is_suspended;
};

struct listen {
    struct MHD_Daemon *daemon;
    listen_answerer *answer;
    void *arg;
    struct stream *streams;
    unsigned n_streams;
    bool is_closing;
};

/* ---- streams ---- */

static ssize_t read_stream(void *arg, uint64_t at, char *to, size_t max)
{
    struct stream *s = arg;
    size_t n = s->len - s->done;

    (void)at;
    if (s->listen->is_closing)
        return MHD_CONTENT_READER_END_OF_STREAM;
    if (n == 0) {
        s->is_suspended = true;
        MHD_suspend_connection(s->client);
        return 0;
    }
    n = n < max ? n : max;
    memcpy(to, s->bytes + s->done, n);
    s->done += n;
    return (ssize_t)n;
}

static void free_stream(void *arg)
{
    struct stream *s = arg;

    if (s->before != NULL)
        s->before->next = s->next;
    else
        s->listen->streams = s->next;
    if (s->next != NULL)
        s->next->before = s->before;
    s->listen->n_streams--;
    free(s->bytes);
    free(s);
}

static struct MHD_Response *make_stream(struct listen *l, struct MHD_Connection *client,
                                        struct listen_answer *a)
{
    struct stream *s = calloc(1, sizeof *s);
    struct MHD_Response *r;

    if (s == NULL)
        return NULL;
    s->listen = l;
    s->client = client;
    s->bytes = a->body;
    s->len = a->len;
    a->body = NULL;
    s->next = l->streams;
    if (s->next != NULL)
        s->next->before = s;
    l->streams = s;
    l->n_streams++;
    r = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK_BYTES, read_stream, s,
                                          free_stream);
    if (r == NULL)
        free_stream(s);
    return r;
}

static void resume(struct stream *s)
{
    if (!s->is_suspended)
        return;
    s->is_suspended = false;
    MHD_resume_connection(s->client);
}

static bool has_streams(const struct listen *l)
{
    return l->streams != NULL;
}

static void tell(struct listen *l, const char *bytes, size_t len)
{
    for (struct stream *s = l->streams; s != NULL; s = s->next) {
        char *copy;

        if (s->done < s->len || (copy = malloc(len + 1)) == NULL)
            continue;
        memcpy(copy, bytes, len);
        free(s->bytes);
        s->bytes = copy;
        s->len = len;
        s->done = 0;
        resume(s);
    }
}

/* ---- requests ---- */

static struct MHD_Response *make_response(struct listen *l, struct MHD_Connection *client,
                                          struct listen_answer *a)
{
    static const char busy[] = "too many streams are open\n";
    struct MHD_Response *r;

    if (a->is_stream && l->n_streams >= MOST_STREAMS) {
        a->status = MHD_HTTP_SERVICE_UNAVAILABLE;
        a->type = "text/plain; charset=utf-8";
        r = MHD_create_response_from_buffer(sizeof busy - 1, (void *)busy,
                                            MHD_RESPMEM_PERSISTENT);
    } else if (a->is_stream) {
        return make_stream(l, client, a);
    } else {
        r = MHD_create_response_from_buffer(a->len, a->body != NULL ? a->body : (void *)"",
                                            a->body != NULL ? MHD_RESPMEM_MUST_FREE
                                                            : MHD_RESPMEM_PERSISTENT);
        if (r != NULL)
            a->body = NULL;
    }
    return r;
}

static void add_header(struct MHD_Response *r, const char *name, const char *value)
{
    if (value != NULL && MHD_add_response_header(r, name, value) != MHD_YES) {
        /* memory is out: the answer lacks it */
    }
}

static const char *header(struct MHD_Connection *client, const char *name)
{
    return MHD_lookup_connection_value(client, MHD_HEADER_KIND, name);
}

/* The body of a POST, as it comes. */
struct body {
    size_t len, cap;
    char bytes[];
};

/* Where the body of this request is to go. NULL: there is none, or it is not to be read. */
static struct body *make_body(struct MHD_Connection *client, const char *method)
{
    const char *text = header(client, "Content-Length");
    char *end;
    unsigned long long len = text != NULL ? strtoull(text, &end, 10) : 0;
    struct body *b;

    if (strcmp(method, "POST") != 0 || len > LISTEN_BODY_MAX ||
        header(client, "Transfer-Encoding") != NULL)
        return NULL;
    b = calloc(1, sizeof *b + (size_t)len + 1);
    if (b != NULL)
        b->cap = (size_t)len;
    return b;
}

/* A piece of it has come. */
static void add_body(struct body *b, const char *data, size_t *size)
{
    if (b->len + *size <= b->cap)
        memcpy(b->bytes + b->len, data, *size);
    b->len += b->len + *size <= b->cap ? *size : 0;
    *size = 0;
}

static void on_end(void *arg, struct MHD_Connection *client, void **state,
                   enum MHD_RequestTerminationCode why)
{
    (void)client, (void)why;
    if (*state != arg)
        free(*state);
    *state = NULL;
}

/* Whoever sends a body is answered before it, and cut off. */
static bool has_body(struct MHD_Connection *client)
{
    const char *len = header(client, "Content-Length");

    return (len != NULL && strcmp(len, "0") != 0) || header(client, "Transfer-Encoding") != NULL;
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *client, const char *url,
                                  const char *method, const char *http, const char *data,
                                  size_t *data_size, void **state)
{
    struct listen_request request = { method, url, header(client, "Authorization"),
                                      header(client, "Host"), header(client, "Accept"), NULL, 0,
                                      false };
    struct listen_answer a = { .status = MHD_HTTP_INTERNAL_SERVER_ERROR };
    struct listen *l = arg;
    struct MHD_Response *r;
    enum MHD_Result result;
    struct body *body;

    (void)http;
    if (*state == NULL && (*state = make_body(client, method)) != NULL)
        return MHD_YES;
    body = *state != arg ? *state : NULL;
    if (body != NULL && *data_size > 0) {
        add_body(body, data, data_size);
        return MHD_YES;
    }
    if (body != NULL) {
        request.body = body->bytes;
        request.body_len = body->len;
    }
    request.is_too_long = request.body == NULL && has_body(client);
    if (*state == NULL && !has_body(client) && (strcmp(method, "GET") == 0 ||
                                                strcmp(method, "HEAD") == 0)) {
        *state = l; /* an answer at the next call lets the client use the connection again */
        return MHD_YES;
    }
    l->answer(l->arg, &request, &a);
    if (a.is_stream && strcmp(method, "HEAD") == 0)
        a.is_stream = false;
    r = make_response(l, client, &a);
    free(a.body);
    if (r == NULL)
        return MHD_NO;
    add_header(r, "Content-Type", a.type);
    add_header(r, "Allow", a.allow);
    add_header(r, "WWW-Authenticate", a.authenticate);
    add_header(r, "Cache-Control", "no-store");
    add_header(r, "X-Content-Type-Options", "nosniff");
    add_header(r, "Referrer-Policy", "no-referrer");
    add_header(r, "X-Frame-Options", "DENY");
    add_header(r, "Content-Security-Policy",
               "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
               "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'");
    result = MHD_queue_response(client, a.status, r);
    MHD_destroy_response(r);
    return result;
}

/* ---- the server ---- */

static struct listen *open_listen(const struct listen_options *o)
{
    struct listen *l = calloc(1, sizeof *l);

    if (l == NULL)
        return NULL;
    l->answer = o->answer;
    l->arg = o->arg;
    l->daemon = MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL,
                                 on_request, l, MHD_OPTION_LISTEN_SOCKET, o->fd,
                                 MHD_OPTION_CONNECTION_LIMIT, MOST_CLIENTS,
                                 MHD_OPTION_CONNECTION_TIMEOUT, IDLE_SECONDS,
                                 MHD_OPTION_CONNECTION_MEMORY_LIMIT, CLIENT_BYTES,
                                 MHD_OPTION_NOTIFY_COMPLETED, on_end, l, MHD_OPTION_END);
    if (l->daemon != NULL)
        return l;
    free(l);
    return NULL;
}

static void turn(struct listen *l, int ms, int stop_fd)
{
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(l->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    struct pollfd fds[2] = { { .fd = info->listen_fd, .events = POLLIN },
                             { .fd = stop_fd, .events = POLLIN } };
    MHD_UNSIGNED_LONG_LONG soon;

    if (MHD_get_timeout(l->daemon, &soon) == MHD_YES && soon < (MHD_UNSIGNED_LONG_LONG)ms)
        ms = (int)soon;
    poll(fds, 2, ms);
    MHD_run(l->daemon);
}

static void close_listen(struct listen *l)
{
    l->is_closing = true;
    for (struct stream *s = l->streams; s != NULL; s = s->next)
        resume(s);
    MHD_run(l->daemon);
    MHD_stop_daemon(l->daemon);
    free(l);
}

static const char *version(void)
{
    static char text[64];

    snprintf(text, sizeof text, "libmicrohttpd %s", MHD_get_version());
    return text;
}

/* The one symbol that the program looks for. */
__attribute__((visibility("default"))) extern const struct listen_module listen_module;
const struct listen_module listen_module = { LISTEN_ABI, version, open_listen, turn, has_streams,
                                             tell, close_listen };
