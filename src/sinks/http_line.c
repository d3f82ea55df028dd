/* http_line.c -- requests and answers over a socket that does not block. See http_line.h.
 * SPDX-License-Identifier: MIT */
#include "sinks/http_line.h"

#include <curl/curl.h>
#include <errno.h>
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/uio.h>

#define PIECE ((size_t)16 << 10)
#define MOST ((size_t)2 << 30)

/* ---- where to ---- */

void http_line_forget(struct http_line_target *t)
{
    free(t->url);
    free(t->authority);
    free(t->host);
    free(t->path);
    *t = (struct http_line_target){ NULL, NULL, NULL, NULL, false };
}

/* A part of the URL, to be freed by curl_free; NULL: it is not there. */
static char *part(CURLU *u, CURLUPart what, unsigned flags)
{
    char *text = NULL;

    return curl_url_get(u, what, &text, flags) == CURLUE_OK ? text : NULL;
}

/* The three texts one after the other. Returns owned, or NULL without memory. */
static char *joined(const char *a, const char *b, const char *c)
{
    size_t size = strlen(a) + strlen(b) + strlen(c) + 1;
    char *text = malloc(size);

    if (text != NULL)
        snprintf(text, size, "%s%s%s", a, b, c);
    return text;
}

/* False without memory. */
static bool take_apart(struct http_line_target *t, CURLU *u)
{
    char *scheme = part(u, CURLUPART_SCHEME, 0), *user = part(u, CURLUPART_USER, 0);
    char *host = part(u, CURLUPART_HOST, 0), *port = part(u, CURLUPART_PORT, CURLU_DEFAULT_PORT);
    char *path = part(u, CURLUPART_PATH, 0), *query = part(u, CURLUPART_QUERY, 0);
    bool ok = true;

    if (scheme != NULL && strcmp(scheme, "http") == 0 && user == NULL && host != NULL &&
        port != NULL && path != NULL) {
        t->host = strcmp(port, "80") == 0 ? joined(host, "", "") : joined(host, ":", port);
        t->authority = t->host != NULL ? joined("http://", t->host, "") : NULL;
        t->path = joined(path, query != NULL ? "?" : "", query != NULL ? query : "");
        ok = t->is_plain = t->authority != NULL && t->path != NULL;
    }
    curl_free(scheme);
    curl_free(user);
    curl_free(host);
    curl_free(port);
    curl_free(path);
    curl_free(query);
    return ok;
}

bool http_line_aim(struct http_line_target *t, const char *url)
{
    CURLU *u;
    bool ok;

    if (t->url != NULL && strcmp(t->url, url) == 0)
        return true;
    http_line_forget(t);
    u = curl_url();
    t->url = joined(url, "", "");
    ok = u != NULL && t->url != NULL &&
         (curl_url_set(u, CURLUPART_URL, url, 0) != CURLUE_OK || take_apart(t, u));
    curl_url_cleanup(u);
    if (!ok)
        http_line_forget(t);
    return ok;
}

/* ---- the head ---- */

/* True if the line is of that header, such as "Host:". */
static bool is_header(const char *line, const char *name)
{
    return strncasecmp(line, name, strlen(name)) == 0;
}

void http_line_put_head(lua_State *L, struct buf *to, const struct http_line_target *t,
                        const char *method, int index)
{
    bool has_host = false, has_accept = false;

    buf_printf(to, "%s %s HTTP/1.1\r\n", method, t->path);
    for (lua_Integer i = 1, n = (lua_Integer)lua_rawlen(L, index); i <= n; i++) {
        size_t len;
        const char *line, *value;

        lua_rawgeti(L, index, i);
        line = luaL_checklstring(L, -1, &len);
        value = memchr(line, ':', len);
        has_host = has_host || is_header(line, "host:");
        has_accept = has_accept || is_header(line, "accept:");
        if (value != NULL && value[1 + strspn(value + 1, " \t")] != '\0') {
            buf_add(to, line, len);
            buf_puts(to, "\r\n");
        }
        lua_pop(L, 1);
    }
    if (!has_host)
        buf_printf(to, "Host: %s\r\n", t->host);
    if (!has_accept)
        buf_puts(to, "Accept: */*\r\n");
}

/* ---- a request ---- */

void http_line_init(struct http_line *l)
{
    *l = (struct http_line){ .fd = -1 };
    buf_init(&l->head, MOST);
    http_answer_init(&l->answer);
}

void http_line_fini(struct http_line *l)
{
    buf_fini(&l->head);
    http_answer_fini(&l->answer);
}

void http_line_begin(struct http_line *l)
{
    l->sent = l->came = 0;
    http_answer_clear(&l->answer);
}

bool http_line_is_sending(const struct http_line *l)
{
    return l->sent < l->head.len + l->body_len;
}

void http_line_send(struct http_line *l)
{
    while (http_line_is_sending(l)) {
        size_t of_head = l->sent < l->head.len ? l->sent : l->head.len, of_body = l->sent - of_head;
        struct iovec parts[2] = {
            { l->head.data + of_head, l->head.len - of_head },
            { (char *)(uintptr_t)l->body + of_body, l->body_len - of_body },
        };
        struct msghdr m = { .msg_iov = parts, .msg_iovlen = l->body_len > 0 ? 2 : 1 };
        ssize_t n = sendmsg(l->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0 && errno != EINTR)
            return;
        l->sent += n > 0 ? (size_t)n : 0;
    }
}

/* The connection is closed, or broken because of <error>. */
static enum http_line_state closed(struct http_line *l, int error)
{
    l->answer.is_last = true;
    if (error == 0 && l->came > 0 && http_answer_end(&l->answer))
        return HTTP_LINE_ANSWERED;
    if (error != 0)
        snprintf(l->why, sizeof l->why, "Recv failure: %s", strerror(error));
    else if (l->came == 0)
        snprintf(l->why, sizeof l->why, "Empty reply from server");
    else
        snprintf(l->why, sizeof l->why, "the connection was closed in the middle of the answer");
    return l->was_used && l->came == 0 ? HTTP_LINE_STALE : HTTP_LINE_FAILED;
}

enum http_line_state http_line_receive(struct http_line *l)
{
    char bytes[PIECE];

    for (;;) {
        ssize_t n = recv(l->fd, bytes, sizeof bytes, MSG_DONTWAIT);
        size_t used;

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return HTTP_LINE_BUSY;
        if (n <= 0)
            return closed(l, n < 0 ? errno : 0);
        l->came += (size_t)n;
        used = http_answer_take(&l->answer, bytes, (size_t)n);
        if (l->answer.state == HTTP_ANSWER_NONSENSE) {
            snprintf(l->why, sizeof l->why, "the server's answer is no HTTP");
            return HTTP_LINE_FAILED;
        }
        if (l->answer.state == HTTP_ANSWER_WHOLE) {
            if (used < (size_t)n || http_line_is_sending(l))
                l->answer.is_last = true;
            l->was_used = true;
            return HTTP_LINE_ANSWERED;
        }
    }
}
