/* http_line.h -- one request after the other over a connection, spoken here and not by libcurl.
 *
 * libcurl makes the connection, and hands it over. Its own requests take 20 us each, most of which
 * is what it does anew for each: here that is 2 us beside what the kernel takes. Plain HTTP only.
 *
 * SPDX-License-Identifier: MIT */
#ifndef HTTP_LINE_H
#define HTTP_LINE_H

#include "sinks/http_answer.h"

#include <lua.h>

/* Where a request goes. */
struct http_line_target {
    char *url;       /* as it was given; NULL: there is none yet */
    char *authority; /* "http://host:port" */
    char *host;      /* as the header has it */
    char *path;      /* with the query */
    bool is_plain;   /* http:, and no login is in it; else the others are NULL */
};

/* Makes it that of the URL; nothing if it is that already. False without memory. */
bool http_line_aim(struct http_line_target *t, const char *url) WARN_UNUSED;
void http_line_forget(struct http_line_target *t);

/* Appends the request up to its headers that change: the line of the method, Host, and the lines of
 * the list at <index>; one that is empty after its name is left out. */
void http_line_put_head(lua_State *L, struct buf *to, const struct http_line_target *t,
                        const char *method, int index);

enum http_line_state {
    HTTP_LINE_BUSY, HTTP_LINE_ANSWERED,
    HTTP_LINE_STALE, /* it was closed before, so nothing of the request was read: once more */
    HTTP_LINE_FAILED,
};

struct http_line {
    int fd;           /* of the connection, owned by the request; -1: there is none */
    bool was_used;    /* an answer has come over the connection */
    struct buf head;  /* of the request, and its body if <body> is NULL */
    const char *body; /* borrowed */
    size_t body_len, sent;
    struct http_answer answer;
    size_t came;      /* bytes of the answer */
    char why[128];    /* of a failure */
};

void http_line_init(struct http_line *l);
void http_line_fini(struct http_line *l);

/* A request begins, whose head and body are set. */
void http_line_begin(struct http_line *l);
/* True if something is to be sent still. */
bool http_line_is_sending(const struct http_line *l);
/* Sends what can be sent now. A failure is told by `receive`. */
void http_line_send(struct http_line *l);
/* Receives what is there. */
enum http_line_state http_line_receive(struct http_line *l);

#endif
