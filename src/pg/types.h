/* types.h -- which kinds of column there are, and what their text means.
 *
 * The values of a column come as the text of COPY. Its kind says how they look in Lua
 * and in JSON. Pure functions.
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
    TYPES_JSON,      /* json, jsonb, and types that queries read as to_json(column) */
};

/* What the catalog says of a column's type, domains resolved to their base. */
struct types_facts {
    uint32_t oid;
    bool is_array, is_composite, has_json_cast;
};

enum types_kind types_kind_of(const struct types_facts *t);

/* True if the query must ask for to_json(column), because only the server can make JSON of it. */
bool types_wants_to_json(const struct types_facts *t);

/* Writes "2026-11-23 00:50:57.7219+00" as to_json does, with T and +00:00, into <to>, which has
 * room for f.len + 3 bytes. Returns the number of bytes written. */
size_t types_timestamp(struct copytext_field f, char *to);

/* Writes the bytes of COPY's "\\x6869" into <to>, which has room for f.len / 2, and sets *len to
 * their number. False if the field does not look like that. */
bool types_bytea(struct copytext_field f, char *to, size_t *len) WARN_UNUSED;

/* True if the text is an integer of 64 bits as JSON has it: without zeros in front. */
bool types_is_integer(struct copytext_field f);

/* Appends the JSON of a field that is not NULL. False if its text is not valid UTF-8, or no
 * integer, boolean or JSON where it must be; what was appended then cannot be used. If <b> is full
 * that is told by buf_ok only. */
bool types_put_json(struct buf *b, enum types_kind kind, struct copytext_field f) WARN_UNUSED;

/* Appends the field as a part of a JSON string, without quotes; a timestamp as types_timestamp has
 * it. False as above. */
bool types_put_text(struct buf *b, enum types_kind kind, struct copytext_field f) WARN_UNUSED;

/* Appends <len> bytes of text as a JSON string, with quotes. False as above. */
bool types_put_string(struct buf *b, const char *s, size_t len) WARN_UNUSED;

/* Writes a finite number with as few digits as make the same number when they are read, but with 15
 * at least where it has so many. */
enum { TYPES_FLOAT_TEXT = 32 };
void types_float_text(double d, char text[TYPES_FLOAT_TEXT]);

#endif
