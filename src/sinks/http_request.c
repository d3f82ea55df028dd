/* http_request.c -- goes on with all requests at a time. See http_request.h.
 * SPDX-License-Identifier: MIT */
#include "sinks/http_request.h"

#include "base/array.h"
#include "base/clock.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define MOST_BODY ((size_t)2 << 30)
#define MOST_TALKING 128 /* that are looked at in one step */
#define LARGE_HEAD ((size_t)64 << 10)

/* ---- one request ---- */

/* libcurl has nothing more to do with it. */
static void take_back(struct http_request_list *all, struct http_request *r)
{
    if (r->is_in_multi)
        curl_multi_remove_handle(all->multi, r->easy);
    r->is_in_multi = false;
}

/* It is given up, and so is the connection of its line. */
static void drop(struct http_request_list *all, struct http_request *r)
{
    take_back(all, r);
    if (r->is_busy && r->how != HTTP_REQUEST_TALKING)
        all->n_libcurl--;
    if (r->line.fd >= 0)
        close(r->line.fd);
    r->line.fd = -1;
    r->line.was_used = false;
    free(r->authority);
    r->authority = NULL;
}

void http_request_rest(struct http_request_list *all, struct http_request *r)
{
    if (r->is_busy || r->line.answer.is_last)
        drop(all, r);
    r->is_busy = r->is_over = false;
    curl_slist_free_all(r->headers);
    r->headers = NULL;
    http_answer_clear(&r->line.answer);
    r->line.body = NULL;
    r->line.body_len = 0;
    buf_clear(&r->line.head);
    if (r->line.head.cap > LARGE_HEAD)
        buf_fini(&r->line.head);
    buf_fini(&r->packed);
    buf_init(&r->packed, MOST_BODY);
}

void http_request_end(struct http_request_list *all)
{
    for (size_t i = 0; i < all->n; i++) {
        struct http_request *r = all->v[i];

        http_request_rest(all, r);
        drop(all, r);
        curl_easy_cleanup(r->easy);
        http_line_fini(&r->line);
        buf_fini(&r->packed);
        free(r);
    }
    if (all->multi != NULL)
        curl_multi_cleanup(all->multi);
    free(all->v);
    *all = (struct http_request_list){ .multi = NULL };
}

struct http_request *http_request_find(struct http_request_list *all, const char *authority)
{
    struct http_request *found = NULL;

    for (size_t i = 0; i < all->n; i++) {
        struct http_request *r = all->v[i];

        if (r->is_busy || r->is_over)
            continue;
        found = r;
        if (authority != NULL && r->authority != NULL && strcmp(r->authority, authority) == 0)
            break;
    }
    return found;
}

struct http_request *http_request_add(struct http_request_list *all, CURL *easy)
{
    struct http_request *r;

    if (!ARRAY_RESERVE(all->v, all->n, all->cap, 1) || (r = calloc(1, sizeof *r)) == NULL)
        return NULL;
    http_line_init(&r->line);
    buf_init(&r->packed, MOST_BODY);
    r->easy = easy;
    all->v[all->n++] = r;
    return r;
}

/* It is over. */
static void end(struct http_request_list *all, struct http_request *r, CURLcode result)
{
    if (r->how != HTTP_REQUEST_TALKING)
        all->n_libcurl--;
    r->is_busy = false;
    r->is_over = true;
    r->result = result;
    if (result != CURLE_OK)
        drop(all, r);
}

/* libcurl goes to work. */
static void give(struct http_request_list *all, struct http_request *r)
{
    all->n_libcurl++;
    r->is_busy = true;
    r->error[0] = '\0';
    if (curl_multi_add_handle(all->multi, r->easy) == CURLM_OK)
        r->is_in_multi = true;
    else
        end(all, r, CURLE_FAILED_INIT);
}

void http_request_begin(struct http_request_list *all, struct http_request *r)
{
    drop(all, r);
    r->how = HTTP_REQUEST_LIBCURL;
    give(all, r);
}

/* ---- lines ---- */

/* Has libcurl connect the line to its authority. */
static void connect_line(struct http_request_list *all, struct http_request *r)
{
    char *authority = r->authority;

    r->authority = NULL;
    drop(all, r);
    r->authority = authority;
    curl_easy_setopt(r->easy, CURLOPT_URL, authority);
    curl_easy_setopt(r->easy, CURLOPT_CONNECT_ONLY, 1L);
    r->how = HTTP_REQUEST_CONNECTING;
    give(all, r);
}

/* Sends the request, over a line that is connected. */
static void talk(struct http_request *r)
{
    r->how = HTTP_REQUEST_TALKING;
    http_line_begin(&r->line);
    http_line_send(&r->line);
}

void http_request_begin_line(struct http_request_list *all, struct http_request *r,
                              const char *authority)
{
    r->deadline = clock_mono_ms() + all->timeout_ms;
    r->error[0] = '\0';
    if (r->line.fd >= 0 && strcmp(r->authority, authority) == 0) {
        r->is_busy = true;
        talk(r);
        return;
    }
    drop(all, r);
    r->authority = strdup(authority);
    if (r->authority != NULL) {
        connect_line(all, r);
    } else {
        r->how = HTTP_REQUEST_TALKING;
        end(all, r, CURLE_OUT_OF_MEMORY);
    }
}

/* Receives what has come over a line. */
static void hear(struct http_request_list *all, struct http_request *r)
{
    switch (http_line_receive(&r->line)) {
    case HTTP_LINE_BUSY:
        break;
    case HTTP_LINE_ANSWERED:
        end(all, r, CURLE_OK);
        break;
    case HTTP_LINE_STALE:
        r->is_busy = false; /* libcurl is not at work for it */
        connect_line(all, r);
        break;
    case HTTP_LINE_FAILED:
        snprintf(r->error, sizeof r->error, "%s", r->line.why);
        end(all, r, CURLE_RECV_ERROR);
        break;
    }
}

/* ---- what libcurl did ---- */

/* The line gets a descriptor of its own for the connection that libcurl has made, who closes its
 * own: it would take the connection for idle, and close it when that has lasted, or when an answer
 * has come that nobody has read yet. */
static void take_over(struct http_request *r)
{
    curl_socket_t fd = CURL_SOCKET_BAD;

    if (curl_easy_getinfo(r->easy, CURLINFO_ACTIVESOCKET, &fd) == CURLE_OK &&
        fd != CURL_SOCKET_BAD)
        r->line.fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

static void collect(struct http_request_list *all)
{
    CURLMsg *message;
    int left;

    while ((message = curl_multi_info_read(all->multi, &left)) != NULL) {
        char *private = NULL;
        void *any;
        struct http_request *r;
        CURLcode result = message->data.result;

        if (message->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &private);
        any = private;
        r = any;
        if (r->how == HTTP_REQUEST_CONNECTING && result == CURLE_OK) {
            take_over(r);
            result = r->line.fd >= 0 ? CURLE_OK : CURLE_COULDNT_CONNECT;
        }
        if (r->how == HTTP_REQUEST_CONNECTING && result == CURLE_OK) {
            all->n_libcurl--;
            talk(r);
        } else {
            end(all, r, result);
        }
        take_back(all, r);
    }
}

/* ---- a step ---- */

struct http_request *http_request_over(const struct http_request_list *all)
{
    for (size_t i = 0; i < all->n; i++)
        if (all->v[i]->is_over)
            return all->v[i];
    return NULL;
}

/* Ends the lines whose time is over. */
static void check_time(struct http_request_list *all)
{
    int64_t now = clock_mono_ms();

    for (size_t i = 0; i < all->n; i++) {
        struct http_request *r = all->v[i];

        if (!r->is_busy || r->how != HTTP_REQUEST_TALKING || now < r->deadline)
            continue;
        snprintf(r->error, sizeof r->error, "Operation timed out after %ld milliseconds with %zu "
                 "bytes received", all->timeout_ms, r->line.came);
        end(all, r, CURLE_OPERATION_TIMEDOUT);
    }
}

/* Waits for lines, and for what libcurl waits for. */
static CURLMcode wait_for(struct http_request_list *all, struct curl_waitfd *fds, unsigned n,
                          int ms)
{
    struct pollfd polled[MOST_TALKING];

    if (all->n_libcurl > 0)
        return curl_multi_poll(all->multi, fds, n, ms, NULL);
    for (unsigned i = 0; i < n; i++)
        polled[i] = (struct pollfd){ .fd = fds[i].fd, .events =
            (short)(POLLIN | (fds[i].events & CURL_WAIT_POLLOUT ? POLLOUT : 0)) };
    if (poll(polled, n, ms) <= 0)
        return CURLM_OK;
    for (unsigned i = 0; i < n; i++)
        fds[i].revents = polled[i].revents != 0;
    return CURLM_OK;
}

/* Waits until something has happened, and sees to the lines. */
static CURLMcode look(struct http_request_list *all, int ms)
{
    struct curl_waitfd fds[MOST_TALKING];
    struct http_request *talking[MOST_TALKING];
    unsigned n = 0;
    CURLMcode result;

    for (size_t i = 0; i < all->n && n < MOST_TALKING; i++) {
        struct http_request *r = all->v[i];

        if (!r->is_busy || r->how != HTTP_REQUEST_TALKING)
            continue;
        talking[n] = r;
        fds[n++] = (struct curl_waitfd){ .fd = r->line.fd, .events = (short)(CURL_WAIT_POLLIN |
            (http_line_is_sending(&r->line) ? CURL_WAIT_POLLOUT : 0)) };
    }
    if (n == 0 && all->n_libcurl == 0)
        return CURLM_OK;
    result = wait_for(all, fds, n, ms);
    for (unsigned i = 0; i < n; i++) {
        if (fds[i].revents == 0)
            continue;
        http_line_send(&talking[i]->line);
        hear(all, talking[i]);
    }
    check_time(all);
    return result;
}

/* Lets libcurl go on. */
static CURLMcode perform(struct http_request_list *all)
{
    CURLMcode result = CURLM_OK;
    int running;

    if (all->n_libcurl > 0) {
        result = curl_multi_perform(all->multi, &running);
        collect(all);
    }
    return result;
}

CURLMcode http_request_step(struct http_request_list *all, int ms)
{
    CURLMcode result = perform(all);

    if (result == CURLM_OK)
        result = look(all, http_request_over(all) != NULL ? 0 : ms);
    return result == CURLM_OK ? perform(all) : result;
}
