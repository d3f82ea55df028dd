/* api_direct.c -- rows that go from a chunk into the outbox of a sink, without a call of Lua for
 * each.
 * SPDX-License-Identifier: MIT */
#include "lua/api_direct.h"

#include "lua/api_outbox_change.h"

#include <lauxlib.h>

/* The fields of a way. Of the first ones api_direct_begin leaves copies on the stack, at these
 * distances from what it returns, and then these: */
enum { OUTBOX, KNOWN, ROWS, BYTES, DONE, BEGIN,
       SOURCE = BEGIN, CLASS, DATA /* the row data of one row after the other */, COUNT };

int api_direct_begin(lua_State *L, const struct api_source *source, int metatable)
{
    int top = lua_gettop(L), way = top + 1 + COUNT;

    if (source->direct == LUA_NOREF)
        return 0;
    luaL_checkstack(L, 2 * COUNT, NULL);
    lua_settop(L, top + COUNT);
    lua_rawgeti(L, LUA_REGISTRYINDEX, source->direct);         /* ... way */
    for (int i = 0; i < BEGIN; i++) {
        lua_rawgeti(L, way, i + 1);
        lua_replace(L, top + 1 + i);
    }
    lua_rawgeti(L, way, BEGIN + 1);
    lua_call(L, 0, 1);
    if (lua_type(L, -1) != LUA_TSTRING) {
        lua_settop(L, top);
        return 0;
    }
    lua_replace(L, top + 1 + SOURCE);
    row_class_push_of_metatable(L, metatable);
    lua_replace(L, top + 1 + CLASS);
    lua_settop(L, top + COUNT);
    return top + 1;
}

/* Rows that are put. */
struct run {
    const struct chunk *chunk;
    size_t done; /* it moves on */
};

/* True if nothing of a row is missing, and the row before it is not told. */
static bool is_plain(const struct chunk *chunk, const struct chunk_row *row)
{
    return !row->is_key_only && !row->has_unknown &&
           (chunk->sides == NULL || chunk->sides[row - chunk->rows].old_len == 0);
}

/* The row data at DATA of a row, in which there is room for longer ones. */
static struct rowdata *read_row(lua_State *L, const struct chunk *chunk,
                                const struct chunk_row *row)
{
    if (!rowdata_refill(L, 1 + DATA, chunk, row)) {
        rowdata_push_room(L, chunk->rowtype->n_columns, 2 * (size_t)row->len + 1024);
        lua_replace(L, 1 + DATA);
        rowdata_refill(L, 1 + DATA, chunk, row);
    }
    return lua_touserdata(L, 1 + DATA);
}

/* Arguments: those of api_direct_begin, then the run. Returns DATA. */
static int put_rows(lua_State *L)
{
    struct run *run = lua_touserdata(L, 1 + COUNT);
    const struct chunk *chunk = run->chunk;
    const struct row_class *class = row_class_from(L, 1 + CLASS);
    struct api_outbox *o = api_outbox_at(L, 1 + OUTBOX);
    struct api_outbox_change_with with = { .source = api_outbox_change_text(L, 1 + SOURCE) };
    lua_Integer until = api_outbox_bytes(o) + luaL_checkinteger(L, 1 + BYTES);
    size_t end = run->done + (size_t)luaL_checkinteger(L, 1 + ROWS);
    enum op op = OP_COUNT;

    for (; run->done < chunk->n_rows && run->done < end && api_outbox_bytes(o) < until;
         run->done++) {
        const struct chunk_row *row = &chunk->rows[run->done];

        if (!is_plain(chunk, row))
            break;
        if (row->op != op) {
            op = row->op;
            lua_settop(L, 1 + COUNT);
            lua_pushvalue(L, 1 + CLASS);
            if (!api_outbox_change_find(L, 1 + KNOWN, op, &with))
                break;
        }
        api_outbox_change_add(L, o, class, read_row(L, chunk, row), &with);
    }
    lua_pushvalue(L, 1 + DATA);
    return 1;
}

size_t api_direct_put(lua_State *L, int at, const struct chunk *chunk, size_t *done)
{
    struct run run = { chunk, *done };
    size_t n;

    if (!is_plain(chunk, &chunk->rows[*done]))
        return 0;
    lua_pushcfunction(L, put_rows);
    for (int i = 0; i < COUNT; i++)
        lua_pushvalue(L, at + i);
    lua_pushlightuserdata(L, &run);
    if (lua_pcall(L, COUNT + 1, 1, 0) == LUA_OK)
        lua_replace(L, at + DATA);
    else
        lua_pop(L, 1); /* the handler meets the same, and knows whom it is to be told to */
    n = run.done - *done;
    *done = run.done;
    if (n > 0) {
        lua_pushvalue(L, at + DONE);
        lua_pushinteger(L, (lua_Integer)n);
        lua_pushinteger(L, api_outbox_bytes(api_outbox_at(L, at + OUTBOX)));
        lua_call(L, 2, 0);
    }
    return n;
}

/* ---- the module ---- */

static int direct(lua_State *L)
{
    int ref = LUA_NOREF;
    struct api_source *source;

    api_source_check(L);
    if (!lua_isnoneornil(L, 2)) {
        luaL_checktype(L, 2, LUA_TTABLE);
        lua_settop(L, 2);
        ref = luaL_ref(L, LUA_REGISTRYINDEX);
    }
    source = api_source_check(L); /* not earlier: the array moves when another one is declared */
    luaL_unref(L, LUA_REGISTRYINDEX, source->direct);
    source->direct = ref;
    return 0;
}

void api_direct_export(lua_State *L)
{
    lua_pushcfunction(L, direct);
    lua_setfield(L, -2, "direct");
}
