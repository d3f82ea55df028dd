/* http_answer.h -- an answer of HTTP/1.1 (or 1.0) to a POST, PUT or PATCH, as its bytes come.
 *
 * Interim answers (1xx) are passed over. Knows no sockets.
 *
 * SPDX-License-Identifier: MIT */
#ifndef HTTP_ANSWER_H
#define HTTP_ANSWER_H

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HTTP_ANSWER_BODY ((size_t)64 << 10) /* bytes of a body that are kept */

enum http_answer_state {
    HTTP_ANSWER_STATUS, HTTP_ANSWER_HEADER, /* a line is awaited; also the next four, but DATA */
    HTTP_ANSWER_CHUNK_SIZE, HTTP_ANSWER_CHUNK_DATA, HTTP_ANSWER_CHUNK_END, HTTP_ANSWER_TRAILER,
    HTTP_ANSWER_BODY_LENGTH, HTTP_ANSWER_BODY_TO_END,
    HTTP_ANSWER_WHOLE,
    HTTP_ANSWER_NONSENSE, /* it is no HTTP; nothing else of it counts */
};

struct http_answer {
    enum http_answer_state state;
    long status;
    struct buf body; /* at most HTTP_ANSWER_BODY of it */
    bool is_last;    /* the connection cannot be used any more */
    struct buf retry_after, location; /* values of these headers; empty: it has none */
    /* for http_answer.c */
    struct buf line;
    size_t head_len;  /* bytes of lines so far */
    uint64_t left;    /* bytes of the body, or of a chunk, that are to come */
    bool has_length, is_chunked;
};

/* To be freed by http_answer_fini. `clear` makes it ready for the next answer. */
void http_answer_init(struct http_answer *a);
void http_answer_clear(struct http_answer *a);
void http_answer_fini(struct http_answer *a);

/* Takes bytes as they come, until it is whole or nonsense. Returns how many were used. */
size_t http_answer_take(struct http_answer *a, const char *bytes, size_t len);

/* The connection was closed. True if the answer is whole with that. */
bool http_answer_end(struct http_answer *a);

#endif
