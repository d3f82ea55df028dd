/* json.h -- Lua values to JSON and back.
 *
 * Encoding is deterministic: keys sorted, shortest floats. Decoding is done by jansson. Everything
 * here may throw.
 *
 * SPDX-License-Identifier: MIT */
#ifndef JSON_H
#define JSON_H

#include "base/buf.h"

#include <lua.h>

/* Tables whose metatable belongs to a class (see json_set_class) are encoded by its <put>. <depth>:
 * how deep the table is inside others; <put> passes it to json_put_nested for what the table holds,
 * which may be the table itself. */
struct json_class {
    void (*put)(lua_State *L, int index, struct buf *b, int depth);
};

/* Makes pgcdc.null and the metatable of arrays. Call it once per state. */
void json_open(lua_State *L);

void json_push_null(lua_State *L);                             /* [-0, +1] */
bool json_null_at(lua_State *L, int index);
void json_push_array_metatable(lua_State *L);                  /* [-0, +1] */

/* The metatable at <index> belongs to <class>, which must live as long as the state, and gets the
 * <name>. A script cannot reach it: getmetatable() gives another table with that name, or see
 * guard.h. (A script that could replace the pointer <class> could have any address called.) */
void json_set_class(lua_State *L, int index, const char *name, const struct json_class *class);

/* The class of the value at <index>, or NULL. The JSON of a table that has one is also its
 * text. */
const struct json_class *json_class_at(lua_State *L, int index);

/* Appends the JSON of the value at <index>. Throws for what has none. */
void json_put(lua_State *L, int index, struct buf *b);

/* The same for a value inside another one, which is <depth> deep. */
void json_put_nested(lua_State *L, int index, struct buf *b, int depth);

/* Throws unless everything that was appended to <b> is there. */
void json_check(lua_State *L, const struct buf *b);

/* Pushes the value of a JSON text. False if the text is not JSON: nothing was pushed, and <why>
 * says what is wrong with it. */
bool json_push(lua_State *L, const char *text, size_t len, char *why, size_t why_size) WARN_UNUSED;

#endif
