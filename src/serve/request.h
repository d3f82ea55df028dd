/* request.h -- what `pgcdc-lua ctl` asks of the running program, and the first line of the answer.
 *
 *    "pgcdc-ctl 1" NUL  COMMAND NUL  NAME=VALUE NUL ...  NUL
 *
 * The answer is lines of JSON. The first one is an object: "ctl": 1, "version", "ok", "text" (for
 * people, or "error") and what else belongs to the command.
 *
 * SPDX-License-Identifier: MIT */
#ifndef REQUEST_H
#define REQUEST_H

#include "base/buf.h"
#include "serve/json_text.h"

#define REQUEST_VERSION 1
#define REQUEST_MAX ((size_t)64 << 10) /* bytes of a request */

struct request {
    uint64_t client;   /* who asks */
    char *bytes;       /* owned */
    size_t len;
    const char *command; /* borrowed from <bytes> */
    struct request *next;
};

/* Begins the text of a request. */
void request_put(struct buf *to, const char *command);
void request_put_word(struct buf *to, const char *word, size_t len); /* NAME=VALUE */
void request_put_end(struct buf *to);

enum request_state {
    REQUEST_PART,   /* more is to come */
    REQUEST_WHOLE,
    REQUEST_WRONG,  /* no such text can be one: <why> says so */
};

/* Whether <len> bytes are a request. <why>: a static text. */
enum request_state request_look(const char *bytes, size_t len, const char **why);

/* Takes the bytes of one that is whole. Returns owned, or NULL: out of memory. */
struct request *request_new(struct buf *bytes);
void request_free(struct request *r);

/* The value of a word; NULL: it is not there. Borrowed. */
const char *request_word(const struct request *r, const char *name);

/* The name of the first word that is not in <names>, which NULL ends; NULL: there is none. *len: of
 * the name. */
const char *request_unknown(const struct request *r, const char *const *names, size_t *len);

/* Begins the first line of an answer; request_end ends it. */
void request_answer(struct json_text *j, struct buf *to, const char *version, bool is_ok,
                    const char *text);
void request_end(struct json_text *j);

#endif
