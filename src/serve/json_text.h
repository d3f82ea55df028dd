/* json_text.h -- JSON, written piece by piece.
 *
 * The text of an object or a list is made in order; commas come by themselves.
 *
 *    json_text_begin(&j, "name", '{');  json_text_string(&j, "a", "x");  json_text_end(&j, '}');
 *
 * SPDX-License-Identifier: MIT */
#ifndef JSON_TEXT_H
#define JSON_TEXT_H

#include "base/buf.h"

struct json_text {
    struct buf *to;    /* borrowed */
    bool wants_comma;
};

/* In all of them <key> is NULL in a list, and at the top. */
void json_text_begin(struct json_text *j, const char *key, char bracket);
void json_text_end(struct json_text *j, char bracket);
void json_text_string(struct json_text *j, const char *key, const char *text); /* NULL: null */
void json_text_u64(struct json_text *j, const char *key, uint64_t n);
void json_text_bool(struct json_text *j, const char *key, bool is);

/* With three decimals; what is no number becomes null. */
void json_text_seconds(struct json_text *j, const char *key, double n);

/* A time as RFC 3339, of microseconds since 1970; 0: null. */
void json_text_time(struct json_text *j, const char *key, int64_t us);

/* Text that is JSON already; NULL: null. */
void json_text_raw(struct json_text *j, const char *key, const char *json);

#endif
