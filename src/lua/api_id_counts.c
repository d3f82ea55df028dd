/* api_id_counts.c -- a hash table from the hash of an id to a number; see api_id_counts.h.
 * SPDX-License-Identifier: MIT */
#include "lua/api_id_counts.h"

#include "base/hash.h"
#include "lua/guard.h"

#include <lauxlib.h>
#include <stdlib.h>

#define COUNTS "pgcdc.id_counts"
#define FEWEST ((size_t)1024) /* entries; always a power of 2 */

struct entry {
    uint64_t hash, count; /* count 0: it is free */
};

struct counts {
    struct entry *entries; /* at most half of them are used; NULL: there is none */
    size_t cap, n;
};

static struct counts *counts_at(lua_State *L, int index)
{
    return luaL_checkudata(L, index, COUNTS);
}

static int new_counts(lua_State *L)
{
    struct counts *c = lua_newuserdatauv(L, sizeof *c, 0);

    *c = (struct counts){ NULL, 0, 0 };
    luaL_setmetatable(L, COUNTS);
    return 1;
}

static int clear(lua_State *L)
{
    struct counts *c = counts_at(L, 1);

    free(c->entries);
    *c = (struct counts){ NULL, 0, 0 };
    return 0;
}

/* The entry of that hash, or the free one where it would be. */
static struct entry *find(struct entry *entries, size_t cap, uint64_t hash)
{
    size_t i = (hash ^ hash >> 32) & (cap - 1);

    while (entries[i].count > 0 && entries[i].hash != hash)
        i = (i + 1) & (cap - 1);
    return &entries[i];
}

/* Makes room for one more. False without memory. */
static bool grow(struct counts *c)
{
    size_t cap = c->cap > 0 ? 2 * c->cap : FEWEST;
    struct entry *entries;

    if (2 * (c->n + 1) <= c->cap)
        return true;
    entries = calloc(cap, sizeof *entries);
    if (entries == NULL)
        return false;
    for (size_t i = 0; i < c->cap; i++)
        if (c->entries[i].count > 0)
            *find(entries, cap, c->entries[i].hash) = c->entries[i];
    free(c->entries);
    c->entries = entries;
    c->cap = cap;
    return true;
}

uint64_t api_id_counts_add(lua_State *L, int index, const char *id, size_t len)
{
    struct counts *c = counts_at(L, index);
    uint64_t hash = hash_digest(id, len);
    struct entry *e;

    if (!grow(c))
        luaL_error(L, "not enough memory");
    e = find(c->entries, c->cap, hash);
    c->n += e->count == 0;
    e->hash = hash;
    return ++e->count;
}

static int add(lua_State *L)
{
    size_t len;
    const char *id = luaL_checklstring(L, 2, &len);

    lua_pushinteger(L, (lua_Integer)api_id_counts_add(L, 1, id, len));
    return 1;
}

void api_id_counts_export(lua_State *L)
{
    static const luaL_Reg methods[] = { { "add", add }, { "clear", clear }, { NULL, NULL } };

    luaL_newmetatable(L, COUNTS);
    guard_set(L, -1, COUNTS);
    lua_pushcfunction(L, clear);
    lua_setfield(L, -2, "__gc");
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    lua_pushcfunction(L, new_counts);
    lua_setfield(L, -2, "id_counts");
}
