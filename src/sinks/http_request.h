/* http_request.h -- requests that are on their way at a time, and who is at work for each: libcurl,
 * or, where only plain HTTP is spoken, a line of http_line.h over a connection that libcurl made.
 *
 *    send: to where a line is     TALKING ──────────────────────────────> over
 *          plain                  CONNECTING (libcurl) ──> TALKING ─────> over
 *          else                   LIBCURL ──────────────────────────────> over
 *
 * A line stays connected for the next request to there. One that was closed meanwhile, before any
 * byte of an answer, is made anew, once; libcurl does the same.
 *
 * SPDX-License-Identifier: MIT */
#ifndef HTTP_REQUEST_H
#define HTTP_REQUEST_H

#include "sinks/http_line.h"

#include <curl/curl.h>

struct http_request {
    CURL *easy;
    enum { HTTP_REQUEST_LIBCURL, HTTP_REQUEST_CONNECTING, HTTP_REQUEST_TALKING } how;
    bool is_busy;
    bool is_over; /* its answer is to be told */
    bool is_in_multi;
    CURLcode result;
    lua_Integer tag;
    struct http_line line;     /* its answer is that of libcurl, too */
    char *authority;           /* that the line is connected to, or is to be; NULL: none */
    int64_t deadline;          /* of a line, in ms of clock_mono_ms */
    struct curl_slist *headers;
    struct buf packed;         /* the body that is sent, if it is compressed */
    char error[CURL_ERROR_SIZE];
};

struct http_request_list {
    CURLM *multi; /* NULL: closed */
    struct http_request **v;
    size_t n, cap;
    size_t n_libcurl; /* how many libcurl is at work for */
    long timeout_ms;
};

/* All of it is closed, and freed. */
void http_request_end(struct http_request_list *all);

/* A request that is at rest, one whose line is connected to that authority if there is one; NULL:
 * none is. */
struct http_request *http_request_find(struct http_request_list *all, const char *authority);

/* Adds one, which owns <easy>. NULL without memory. */
struct http_request *http_request_add(struct http_request_list *all, CURL *easy);

/* The request is to be used again: its answer was told, or it is given up. */
void http_request_rest(struct http_request_list *all, struct http_request *r);

/* Begins a request by libcurl, whose options are set; by a line, whose head and body are, to that
 * authority. Failures are told as its answer. */
void http_request_begin(struct http_request_list *all, struct http_request *r);
void http_request_begin_line(struct http_request_list *all, struct http_request *r,
                              const char *authority);

/* The first one whose answer is to be told, or NULL. */
struct http_request *http_request_over(const struct http_request_list *all);

/* Goes on with all of them; waits for <ms> at most, until one is over. */
CURLMcode http_request_step(struct http_request_list *all, int ms) WARN_UNUSED;

#endif
