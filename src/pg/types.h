/* types.h -- which kinds of column there are, and what their text means.
 *
 * A column's values come as the text of COPY. Its kind says what that text is
 * worth in Lua and in JSON. Pure functions; no I/O, no Lua.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TYPES_H
#define TYPES_H

#include "base/buf.h"

#include <stdint.h>

enum kind {
    KIND_TEXT,      /* and everything else that has no better idea than its text */
    KIND_BOOL,
    KIND_INT,       /* int2, int4, int8 */
    KIND_FLOAT,     /* float4, float8 */
    KIND_NUMERIC,
    KIND_BYTEA,
    KIND_TIMESTAMP, /* with and without time zone */
    KIND_JSON,      /* json and jsonb, and what the query wraps in to_json() */
};

/* What the catalog says of a column's type, domains resolved to their base. */
struct type_facts {
    uint32_t oid;
    bool is_array, is_composite, has_json_cast;
};

enum kind types_kind(const struct type_facts *t);

/* True if the query must ask for to_json(column): the server knows best. */
bool types_wants_to_json(const struct type_facts *t);

/* One field of a COPY row. */
struct field {
    const char *p;
    size_t len;
};

/* True for \N, which is NULL. */
bool field_is_null(struct field f);

/* Undoes COPY's backslashes into <to>, which has room for f.len bytes.
 * Returns the number of bytes written. */
size_t field_unescape(struct field f, char *to);

/* Appends <len> bytes of text with COPY's backslashes: neither tab nor newline is left in it. */
void field_escape(struct buf *b, const char *s, size_t len);

/* Splits a COPY row of <n> fields: <ends>[i] is the offset behind field i.
 * False if the row has another number of fields. */
bool field_split(const char *row, size_t len, uint32_t *ends, size_t n) WARN_UNUSED;

/* "2026-11-23 00:50:57.7219+00" as to_json writes it, into <to>, which has room for
 * f.len + 3 bytes. Returns the number of bytes written. */
size_t field_timestamp(struct field f, char *to);

/* COPY's "\\x6869" as bytes into <to>, room for f.len / 2. False if that is not what it is. */
bool field_bytea(struct field f, char *to, size_t *len) WARN_UNUSED;

/* Appends the JSON of a field that is not NULL. False if its text is not valid UTF-8. */
bool field_put_json(struct buf *b, enum kind kind, struct field f) WARN_UNUSED;

/* Appends the inside of a JSON string that reads as the field does in Lua, without quotes.
 * False as above. */
bool field_put_text(struct buf *b, enum kind kind, struct field f) WARN_UNUSED;

/* Appends <len> bytes of text as a JSON string. False if they are not valid UTF-8;
 * what was appended then is no use. */
bool types_put_string(struct buf *b, const char *s, size_t len) WARN_UNUSED;

/* The shortest text that reads back as the same finite number, which is what Postgres writes. */
enum { FLOAT_TEXT = 32 };
void types_float_text(double d, char text[FLOAT_TEXT]);

/* True if the text is a JSON number (and not NaN or Infinity). */
bool types_is_number(const char *s, size_t len);

#endif
