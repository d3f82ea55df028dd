/* types.h -- which kinds of column there are, and what their text means.
 *
 * A column's values come as the text of COPY. Its kind says what they are in Lua
 * and in JSON. Pure functions; no I/O, no Lua.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TYPES_H
#define TYPES_H

#include "pg/copytext.h"

#include <stdint.h>

enum types_kind {
    TYPES_TEXT,      /* and every type that is none of the others */
    TYPES_BOOL,
    TYPES_INT,       /* int2, int4, int8 */
    TYPES_FLOAT,     /* float4, float8 */
    TYPES_NUMERIC,
    TYPES_BYTEA,
    TYPES_TIMESTAMP, /* with and without time zone */
    TYPES_JSON,      /* json and jsonb, and what queries ask for as to_json(column) */
};

/* What the catalog says of a column's type, domains resolved to their base. */
struct types_facts {
    uint32_t oid;
    bool is_array, is_composite, has_json_cast;
};

enum types_kind types_kind_of(const struct types_facts *t);

/* True if the query must ask for to_json(column), because only the server can make JSON of it. */
bool types_wants_to_json(const struct types_facts *t);

/* "2026-11-23 00:50:57.7219+00" as to_json writes it, into <to>, which has room for
 * f.len + 3 bytes. Returns the number of bytes written. */
size_t types_timestamp(struct copytext_field f, char *to);

/* COPY's "\\x6869" as bytes into <to>, room for f.len / 2. False if that is not what it is. */
bool types_bytea(struct copytext_field f, char *to, size_t *len) WARN_UNUSED;

/* Appends the JSON of a field that is not NULL. False if its text is not valid UTF-8. */
bool types_put_json(struct buf *b, enum types_kind kind, struct copytext_field f) WARN_UNUSED;

/* Appends the inside of a JSON string that reads as the field does in Lua, without quotes.
 * False as above. */
bool types_put_text(struct buf *b, enum types_kind kind, struct copytext_field f) WARN_UNUSED;

/* Appends <len> bytes of text as a JSON string. False if they are not valid UTF-8; what was
 * appended then cannot be used. */
bool types_put_string(struct buf *b, const char *s, size_t len) WARN_UNUSED;

/* The shortest text that reads back as the same finite number, which is what Postgres writes. */
enum { TYPES_FLOAT_TEXT = 32 };
void types_float_text(double d, char text[TYPES_FLOAT_TEXT]);

/* True if the text is a JSON number (and not NaN or Infinity). */
bool types_is_number(const char *s, size_t len);

#endif
