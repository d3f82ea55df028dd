/* json_exact.h -- numbers of JSON texts that Lua has no number for.
 *
 * An integer beyond 64 bits, and a number with more digits than a double keeps, become text with
 * all their digits. It is remembered of the table that holds such a text that it was a number; so
 * as long as the same text stands at the same key, it is encoded as the number again.
 *
 * Before jansson decodes a text these numbers are marked: each becomes a string that begins with
 * \u0000n, and strings that begin with \u0000 get \u0000s in front.
 *
 * Everything here may throw.
 *
 * SPDX-License-Identifier: MIT */
#ifndef JSON_EXACT_H
#define JSON_EXACT_H

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>

/* True if the text may hold such a number. */
bool json_exact_may_be_in(const char *text, size_t len);

/* Pushes the marked text; the same text if it is no JSON. */
void json_exact_push_marked(lua_State *L, const char *text, size_t len); /* [-0, +1] */

/* Pushes the text that a string of a marked text stands for. Returns true if it was a number. */
bool json_exact_push_string(lua_State *L, const char *s, size_t len); /* [-0, +1] */

/* Remembers of the table at <table> that its text at the key on top of the stack is a number. The
 * text is below the key; both stay on the stack. */
void json_exact_remember(lua_State *L, int table);

/* Pushes what is remembered of the table at <table>: a table from its keys to texts of numbers; or
 * nil. */
void json_exact_push_of(lua_State *L, int table);              /* [-0, +1] */

/* Remembers of the table at <to> what is remembered of the one at <from>. */
void json_exact_carry(lua_State *L, int from, int to);

#endif
