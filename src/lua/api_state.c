/* api_state.c -- the state file, for scripts and the host.
 * SPDX-License-Identifier: MIT */
#include "lua/api_state.h"

#include "lua/api_source.h"
#include "lua/json.h"
#include "state/home.h"
#include "state/transfer.h"

#include <lauxlib.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

/* Appends the value of the record of this kind, and <end>. Appends nothing if the record is missing
 * or cannot be read, so that a damaged file can be reset. */
static void put_kept(struct store *store, const char *kind, const char *end, struct buf *b)
{
    struct store_record r;
    struct err e;

    if (!store_find(store, kind, "", &e))
        return;
    while (store_next(store, &r, &e)) {
        buf_add(b, r.value.p, r.value.len);
        buf_puts(b, end);
    }
}

static bool keep(struct store *store, const char *kind, const struct buf *b, struct err *e)
{
    static const struct store_slice none = { "", 0 };
    const struct store_record r = { .kind = { kind, strlen(kind) }, .name = none, .key = none,
                                    .value = { b->data, b->len } };

    return b->len == 0 || store_put(store, &r, e);
}

/* Forgets everything but the numbers of changes, which never go back. The name by which targets
 * know this file is kept as a former name, so that it still counts as the owner of what it wrote
 * there. */
static bool forget_all(struct store *store, struct err *e)
{
    struct buf former, seq;
    bool ok;

    buf_init(&former, SIZE_MAX / 2);
    buf_init(&seq, SIZE_MAX / 2);
    put_kept(store, "former", "", &former);
    put_kept(store, "pipeline", " ", &former);
    put_kept(store, "seq", "", &seq);
    ok = ((buf_ok(&former) && buf_ok(&seq)) || err_memory(e)) && store_begin(store, e);
    if (ok && !(store_forget_all(store, e) && keep(store, "former", &former, e) &&
                keep(store, "seq", &seq, e) && store_commit(store, e))) {
        store_rollback(store);
        ok = false;
    }
    buf_fini(&former);
    buf_fini(&seq);
    return ok;
}

/* A database_says. */
static void say(void *arg, const char *text)
{
    const struct script *s = arg;

    log_text(s->o.log, LOG_WARN, text, "pipeline", s->o.pipeline);
}

/* Waits while another process has the pipeline. */
static bool pause_for(void *arg, int64_t ms, struct err *e)
{
    struct script *s = arg;

    return s->pause(s->pause_arg, ms, e);
}

static struct store *open_database(struct script *s, struct err *e)
{
    const struct database_options o = {
        .conninfo = s->o.database, .pipeline = s->o.pipeline, .lease_s = s->o.lease_s,
        .stop_fd = s->o.stop_fd, .says = say,
        .pause = s->pause != NULL ? pause_for : NULL, .arg = s, .role = s->role,
    };

    return store_make_folder(s->o.state, e) ? home_open_database(&o, e) : NULL;
}

bool api_state_open(struct script *s, struct err *e)
{
    if (s->store != NULL)
        return true;
    s->store = s->o.database != NULL ? open_database(s, e) : store_open(s->o.state, e);
    return s->store != NULL && transfer_check(s->store, e) &&
           (!s->o.resets || s->o.reset != NULL || forget_all(s->store, e));
}

/* Throws the message of s->cause: the failure then counts as that error, see script_call. */
static int throw_cause(lua_State *L)
{
    lua_pushstring(L, script_of(L)->cause.msg);
    return lua_error(L);
}

static void put_slice(struct buf *b, struct store_slice text)
{
    buf_add(b, &text.len, sizeof text.len);
    buf_add(b, text.p, text.len);
}

/* Pushes what put_slice wrote at <p>. Returns what follows it. */
static const char *push_text(lua_State *L, const char *p)     /* [-0, +1] */
{
    size_t len;

    memcpy(&len, p, sizeof len);
    lua_pushlstring(L, p + sizeof len, len);
    return p + sizeof len + len;
}

/* All records are read before Lua allocates: the collector may run then, and a finalizer may read
 * other records. */
static int kept(lua_State *L)
{
    struct script *s = script_of(L);
    const char *kind = luaL_checkstring(L, 1), *name = luaL_checkstring(L, 2);
    struct buf *b = script_scratch(L);
    struct store_record r;

    if (s->o.state != NULL) {
        if (!api_state_open(s, &s->cause) || !store_find(s->store, kind, name, &s->cause))
            return throw_cause(L);
        while (store_next(s->store, &r, &s->cause)) {
            put_slice(b, r.key);
            put_slice(b, r.value);
        }
        if (s->cause.code != ERR_NONE)
            return throw_cause(L);
        json_check(L, b);
    }
    lua_settop(L, 2);
    lua_createtable(L, 0, 0);                                  /* kind name values */
    for (size_t at = 0; at < b->len; ) {
        const char *p = push_text(L, b->data + at);

        at = (size_t)(push_text(L, p) - b->data);
        lua_rawset(L, 3);
    }
    return 1;
}

/* Field <i> of the list on top of the stack, as text that stays there: [-0, +1] */
static struct store_slice push_slice(lua_State *L, int i)
{
    struct store_slice text = { NULL, 0 };

    if (lua_rawgeti(L, -i, i) != LUA_TBOOLEAN)
        text.p = luaL_checklstring(L, -1, &text.len);
    return text;
}

static bool put_records(lua_State *L, struct store *store, lua_Integer n, struct err *e)
{
    for (lua_Integer i = 1; i <= n; i++) {
        struct store_record r;

        lua_rawgeti(L, 1, i);                                  /* records record */
        r.kind = push_slice(L, 1);
        r.name = push_slice(L, 2);
        r.key = push_slice(L, 3);
        r.value = push_slice(L, 4);
        lua_rawgeti(L, 2, 5);
        r.change = (uint64_t)lua_tointeger(L, -1);
        if (!store_put(store, &r, e))
            return false;
        lua_settop(L, 1);
    }
    return true;
}

/* Nothing may throw while the transaction is open. */
static void check_records(lua_State *L, lua_Integer n)
{
    for (lua_Integer i = 1; i <= n; i++) {
        if (lua_rawgeti(L, 1, i) != LUA_TTABLE)
            luaL_error(L, "a record is a list");
        for (int k = 1; k <= 4; k++)
            if (lua_rawgeti(L, 2, k) != LUA_TSTRING &&
                (k < 4 || lua_type(L, -1) != LUA_TBOOLEAN))
                luaL_error(L, "field %d of a record is not text", k);
        if (lua_rawgeti(L, 2, 5) != LUA_TNIL && !lua_isinteger(L, -1))
            luaL_error(L, "field 5 of a record is no number");
        lua_settop(L, 1);
    }
}

/* Tells the host of positions that were saved. Allocates nothing. */
static void tell_saved(lua_State *L, lua_Integer n)
{
    struct script *s = script_of(L);

    for (lua_Integer i = 1; s->tell_saved != NULL && i <= n; i++) {
        const char *kind, *name, *text;

        lua_rawgeti(L, 1, i);                                  /* records record */
        kind = push_slice(L, 1).p;
        name = push_slice(L, 2).p;
        (void)push_slice(L, 3);
        text = push_slice(L, 4).p;
        if (text != NULL && strcmp(kind, "position") == 0)
            s->tell_saved(s->tell_arg, name, text);
        lua_settop(L, 1);
    }
}

static int save(lua_State *L)
{
    struct script *s = script_of(L);
    struct err *e = &s->cause;
    lua_Integer n;
    bool ok;

    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    n = (lua_Integer)lua_rawlen(L, 1);
    check_records(L, n);
    if (n == 0 || s->o.state == NULL)
        return 0;
    ok = api_state_open(s, e) && store_begin(s->store, e);
    ok = ok && put_records(L, s->store, n, e) && seq_put(&s->seq, e) && store_commit(s->store, e);
    if (!ok && s->store != NULL)
        store_rollback(s->store);
    seq_end(&s->seq, ok);
    if (!ok)
        return throw_cause(L);
    tell_saved(L, n);
    return 0;
}

static int pipeline(lua_State *L)
{
    unsigned char bytes[12];
    char text[2 * sizeof bytes + 1];

    lua_settop(L, 0);
    lua_pushcfunction(L, kept);
    lua_pushliteral(L, "pipeline");
    lua_pushliteral(L, "");
    lua_call(L, 2, 1);
    if (lua_getfield(L, 1, "") == LUA_TSTRING)
        return 1;
    if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
        return luaL_error(L, "the system has no random bytes");
    for (size_t i = 0; i < sizeof bytes; i++)
        snprintf(text + 2 * i, 3, "%02x", bytes[i]);
    lua_settop(L, 0);
    lua_pushstring(L, text);
    lua_pushcfunction(L, save);
    lua_createtable(L, 1, 0);                                  /* text save records */
    lua_createtable(L, 4, 0);
    for (int i = 1; i <= 3; i++) {
        lua_pushstring(L, i == 1 ? "pipeline" : "");
        lua_rawseti(L, -2, i);
    }
    lua_pushvalue(L, 1);
    lua_rawseti(L, -2, 4);
    lua_rawseti(L, -2, 1);
    lua_call(L, 1, 0);
    return 1;
}

/* The number of this process among those that have had the pipeline; nil: nobody counts. */
static int epoch(lua_State *L)
{
    struct script *s = script_of(L);

    if (s->o.state == NULL || s->o.database == NULL)
        return 0;
    if (!api_state_open(s, &s->cause))
        return throw_cause(L);
    lua_pushinteger(L, (lua_Integer)store_epoch(s->store));
    return 1;
}

/* Raises that another process has the pipeline, if one has. */
static int confirm(lua_State *L)
{
    struct script *s = script_of(L);

    return s->store == NULL || store_confirm(s->store, &s->cause) ? 0 : throw_cause(L);
}

/* True while nobody else can have the pipeline. Does not block. */
static int leads(lua_State *L)
{
    struct script *s = script_of(L);

    lua_pushboolean(L, s->store == NULL || store_leads(s->store));
    return 1;
}

static int hold_back(lua_State *L)
{
    script_of(L)->is_held_back = lua_toboolean(L, 1);
    return 0;
}

static int want_flush(lua_State *L)
{
    script_of(L)->wants_flush = true;
    return 0;
}

void api_state_export(lua_State *L)
{
    static const luaL_Reg functions[] = {
        { "kept", kept }, { "save", save }, { "pipeline", pipeline },
        { "epoch", epoch }, { "confirm", confirm }, { "leads", leads },
        { "hold_back", hold_back }, { "want_flush", want_flush }, { NULL, NULL },
    };

    luaL_setfuncs(L, functions, 0);
}
