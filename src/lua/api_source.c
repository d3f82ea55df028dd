/* api_source.c -- sources and their handlers, as scripts declare them.
 * SPDX-License-Identifier: MIT */
#include "lua/api_source.h"

#include "base/array.h"
#include "base/clock.h"
#include "base/hash.h"
#include "pg/connect.h"

#include <inttypes.h>
#include <lauxlib.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BOX "pgcdc.config" /* of a config that is being read */
#define ITS_OWN SIZE_MAX /* the unit that begins with this source */

/* In the order of enum api_source_event. */
static const char *const event_names[] = { "read", "upsert", "insert", "update", "delete", "batch",
                                           "ready", "schema", "error", "truncate", "commit",
                                           "message", "columns", NULL };

void api_source_free(struct script *s)
{
    for (size_t i = 0; i < s->n_sources; i++) {
        config_free(s->sources[i].config);
        free(s->sources[i].name);
        rowtype_unref(s->sources[i].announced);
    }
    free(s->sources);
    s->sources = NULL;
    s->n_sources = s->cap_sources = 0;
    s->is_loaded = true; /* finalizers run later */
}

/* Returns the text on top of the stack, owned. Throws if that is no text, or, with <what> in the
 * message, if it holds a zero byte. */
static char *own_text(lua_State *L, const char *what)
{
    size_t len;
    const char *text = luaL_checklstring(L, -1, &len);
    char *owned;

    if (strlen(text) != len)
        luaL_error(L, "%s holds a zero byte", what);
    owned = strdup(text);
    if (owned == NULL)
        luaL_error(L, "out of memory");
    return owned;
}

/* spec[name] as owned text, NULL for nil. */
static char *text_field(lua_State *L, const char *name)
{
    char *text = NULL;

    lua_pushfstring(L, "'%s'", name);
    if (lua_getfield(L, 1, name) != LUA_TNIL)
        text = own_text(L, lua_tostring(L, -2));
    lua_pop(L, 2);
    return text;
}

/* A conninfo as owned text: a string, or what stands for --dsn. */
static char *conninfo_field(lua_State *L, const char *name)
{
    const char *text;
    char *owned;

    lua_getfield(L, 1, name);
    text = script_push_conninfo(L, -1);
    owned = strdup(text);
    if (owned == NULL)
        luaL_error(L, "out of memory");
    lua_pop(L, 2);
    return owned;
}

/* Reads spec[name], a list of strings, into *list and *n: fields of the config, so that the texts
 * are freed with it if anything throws. */
static void read_list(lua_State *L, const char *name, char ***list, size_t *n)
{
    lua_Unsigned count;

    lua_pushfstring(L, "a name in '%s'", name);                /* what */
    if (lua_getfield(L, 1, name) == LUA_TTABLE) {              /* what names */
        count = lua_rawlen(L, -1);
        *list = calloc(count + 1, sizeof **list);
        if (*list == NULL)
            luaL_error(L, "out of memory");
        for (lua_Unsigned i = 1; i <= count; i++) {
            lua_rawgeti(L, -1, (lua_Integer)i);                /* what names name */
            (*list)[*n] = own_text(L, lua_tostring(L, -3));
            (*n)++;
            lua_pop(L, 1);
        }
    }
    lua_pop(L, 2);
}

static lua_Number number_field(lua_State *L, const char *name)
{
    lua_Number n;

    lua_getfield(L, 1, name);
    n = luaL_checknumber(L, -1);
    lua_pop(L, 1);
    return n;
}

static int64_t ms_field(lua_State *L, const char *name)
{
    return (int64_t)(number_field(L, name) * 1000 + 0.5);
}

static bool flag_field(lua_State *L, const char *name)
{
    bool is;

    lua_getfield(L, 1, name);
    is = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return is;
}

static void read_start(lua_State *L, struct config *c)
{
    if (lua_getfield(L, 1, "start") == LUA_TNUMBER) {
        c->start = CONFIG_START_XID;
        c->start_xid = (uint64_t)luaL_checkinteger(L, -1);
    } else {
        c->start = strcmp(luaL_checkstring(L, -1), "now") == 0 ? CONFIG_START_NOW
                                                               : CONFIG_START_SNAPSHOT;
    }
    lua_pop(L, 1);
}

static enum config_hints hints_field(lua_State *L)
{
    /* in the order of enum config_hints */
    static const char *const names[] = { "never", "auto", "wal", "check", NULL };
    int hints;

    lua_getfield(L, 1, "hints");
    hints = luaL_checkoption(L, -1, "auto", names);
    lua_pop(L, 1);
    return (enum config_hints)hints;
}

static enum config_capture capture_field(lua_State *L)
{
    /* in the order of enum config_capture */
    static const char *const names[] = { "xmin", "increment", "trigger", "logical", "feed",
                                         NULL };
    int capture;

    lua_getfield(L, 1, "capture");
    capture = luaL_checkoption(L, -1, "xmin", names);
    lua_pop(L, 1);
    return (enum config_capture)capture;
}

/* Appends a source. Takes <config> over, unless it throws. */
static void add_source(lua_State *L, struct script *s, struct config *config)
{
    struct api_source *source;

    if (!ARRAY_RESERVE(s->sources, s->n_sources, s->cap_sources, 1))
        luaL_error(L, "out of memory");
    source = &s->sources[s->n_sources];
    *source = (struct api_source){ .metatable = LUA_NOREF, .direct = LUA_NOREF,
                                   .group = s->n_sources, .config = config };
    for (size_t i = 0; i < API_SOURCE_EVENTS; i++)
        source->handlers[i] = LUA_NOREF;
    s->n_sources++;
}

/* The name of the slot that the sources of a database have, unless they name one: made of the state
 * file, since two of them cannot share a slot, and of the database. */
static char *default_slot(const struct script *s, const char *conninfo, struct err *e)
{
    uint64_t hash = HASH_START;
    struct buf place;
    char name[32], here[PATH_MAX] = "";
    char *owned = NULL;

    buf_init(&place, BUF_SQL_MAX);
    if (s->o.database != NULL) /* it is the same on every machine */
        buf_printf(&place, "pipeline %s\n", s->o.pipeline);
    else if (s->o.state != NULL && *s->o.state != '/' && getcwd(here, sizeof here) != NULL)
        buf_printf(&place, "%s/", here);
    if (s->o.database == NULL)
        buf_printf(&place, "%s\n", s->o.state != NULL ? s->o.state : "");
    if (connect_put_place(&place, conninfo, e) && (buf_ok(&place) || err_memory(e))) {
        hash = hash_bytes(hash, place.data, place.len);
        snprintf(name, sizeof name, "pgcdc_%08" PRIx32, (uint32_t)(hash ^ hash >> 32));
        owned = strdup(name);
        if (owned == NULL)
            err_memory(e);
    }
    buf_fini(&place);
    return owned;
}

static enum config_on_full on_full_field(lua_State *L)
{
    /* in the order of enum config_on_full */
    static const char *const names[] = { "drop", "keep", "stop", NULL };
    int on_full;

    lua_getfield(L, 1, "on_full");
    on_full = luaL_checkoption(L, -1, "drop", names);
    lua_pop(L, 1);
    return (enum config_on_full)on_full;
}

/* True if both name the same database of the same server. */
static bool is_same_place(struct script *s, const char *a, const char *b)
{
    struct buf places[2];
    bool is = false;

    buf_init(&places[0], BUF_SQL_MAX);
    buf_init(&places[1], BUF_SQL_MAX);
    if (connect_put_place(&places[0], a, &s->cause) && connect_put_place(&places[1], b, &s->cause))
        is = buf_ok(&places[0]) && buf_ok(&places[1]) &&
             strcmp(places[0].data, places[1].data) == 0;
    buf_fini(&places[0]);
    buf_fini(&places[1]);
    return is;
}

/* A slot is read by one connection, for all its sources. */
static void check_group(lua_State *L, struct script *s, const struct config *a,
                        const struct config *b)
{
    const char *of_a = a->slot_conninfo != NULL ? a->slot_conninfo : "";
    const char *of_b = b->slot_conninfo != NULL ? b->slot_conninfo : "";

    if (a->capture != CONFIG_BY_LOGICAL || strcmp(a->slot, b->slot) != 0)
        return;
    if (strcmp(a->conninfo, b->conninfo) == 0) {
        if (strcmp(of_a, of_b) != 0 || a->on_full != b->on_full ||
            a->has_failover != b->has_failover)
            luaL_error(L, "sources of one slot (%s) have the same slot_connect, on_full and "
                       "failover: name another slot for one of them", b->slot);
    } else if (is_same_place(s, a->conninfo, b->conninfo)) {
        luaL_error(L, "sources of one slot (%s) have the same connect: write it alike, or name "
                   "another slot for one of them", b->slot);
    }
}

static void read_slot(lua_State *L, struct config *c)
{
    /* in the order of enum config_toast */
    static const char *const toasts[] = { "fill", "leave", "require", NULL };
    struct script *s = script_of(L);

    if (c->capture != CONFIG_BY_LOGICAL)
        return;
    c->publication = text_field(L, "publication");
    c->max_retained = (uint64_t)number_field(L, "max_retained");
    lua_getfield(L, 1, "toast");
    c->toast = (enum config_toast)luaL_checkoption(L, -1, "fill", toasts);
    lua_pop(L, 1);
    c->has_failover = flag_field(L, "failover");
    c->on_full = on_full_field(L);
    if (lua_getfield(L, 1, "slot_connect") != LUA_TNIL)
        c->slot_conninfo = conninfo_field(L, "slot_connect");
    lua_pop(L, 1);
    c->slot = text_field(L, "slot");
    c->has_own_slot = c->slot == NULL;
    if (c->slot == NULL && (c->slot = default_slot(s, c->conninfo, &s->cause)) == NULL)
        luaL_error(L, "%s", s->cause.msg);
    for (size_t i = 0; i < s->n_sources; i++)
        check_group(L, s, s->sources[i].config, c);
}

static void read_config(lua_State *L, struct config *c)
{
    c->table = text_field(L, "table");
    c->name = text_field(L, "name");
    c->capture = capture_field(L);
    read_start(L, c);
    if (c->capture == CONFIG_BY_FEED)
        return;
    c->conninfo = conninfo_field(L, "connect");
    c->where = text_field(L, "where");
    c->soft_delete = text_field(L, "soft_delete");
    read_list(L, "columns", &c->columns, &c->n_columns);
    read_list(L, "pk", &c->pk, &c->n_pk);
    read_slot(L, c);
    c->column = text_field(L, "column");
    c->lookback = number_field(L, "lookback");
    c->recheck_ms = ms_field(L, "recheck");
    c->interval_min_ms = ms_field(L, "interval_min");
    c->interval_max_ms = ms_field(L, "interval_max");
    c->parallel = (unsigned)number_field(L, "parallel");
    c->readers = (unsigned)number_field(L, "readers");
    c->max_load = number_field(L, "max_load");
    c->connections = (size_t)number_field(L, "connections");
    c->hints = hints_field(L);
    c->quiet_ms = ms_field(L, "quiet");
    c->rls = flag_field(L, "rls");
    c->deletes = flag_field(L, "deletes");
    c->counts_first = flag_field(L, "counts_first");
    c->keeps_old = flag_field(L, "old");
    c->skips_unchanged = flag_field(L, "skip_unchanged");
    c->check_ms = ms_field(L, "check_interval");
    c->is_joint = lua_getfield(L, 1, "unit") != LUA_TNIL;
    c->unit = lua_isinteger(L, -1) ? (size_t)lua_tointeger(L, -1) - 1 : ITS_OWN;
    lua_pop(L, 1);
}

static int drop_config(lua_State *L)
{
    struct config **box = luaL_checkudata(L, 1, BOX);

    config_free(*box);
    *box = NULL;
    return 0;
}

static int declare(lua_State *L)
{
    struct script *s = script_of(L);
    struct config **box;

    luaL_checktype(L, 1, LUA_TTABLE);
    if (s->is_loaded)
        return luaL_error(L, "sources are declared while the script loads, not in its handlers");
    lua_settop(L, 1);
    box = lua_newuserdatauv(L, sizeof *box, 0);                /* spec box */
    *box = NULL;
    luaL_setmetatable(L, BOX);
    *box = calloc(1, sizeof **box);
    if (*box == NULL)
        return luaL_error(L, "out of memory");
    read_config(L, *box); /* a finalizer may declare another source meanwhile */
    if ((*box)->unit == ITS_OWN)
        (*box)->unit = s->n_sources;
    add_source(L, s, *box);
    *box = NULL;
    lua_pushinteger(L, (lua_Integer)s->n_sources);
    return 1;
}

struct api_source *api_source_check(lua_State *L)
{
    struct script *s = script_of(L);
    lua_Integer number = luaL_checkinteger(L, 1);

    luaL_argcheck(L, number >= 1 && (size_t)number <= s->n_sources, 1, "no such source");
    return &s->sources[number - 1];
}

static int handle(lua_State *L)
{
    int event = luaL_checkoption(L, 2, NULL, event_names), ref = LUA_NOREF;
    struct api_source *source;

    api_source_check(L);
    if (!lua_isnoneornil(L, 3)) {
        luaL_checktype(L, 3, LUA_TFUNCTION);
        lua_settop(L, 3);
        ref = luaL_ref(L, LUA_REGISTRYINDEX);
    }
    source = api_source_check(L); /* not earlier: the array moves when another source is declared */
    luaL_unref(L, LUA_REGISTRYINDEX, source->handlers[event]);
    source->handlers[event] = ref;
    return 0;
}

static int source_count(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)script_of(L)->n_sources);
    return 1;
}

static int source_name(lua_State *L)
{
    const struct api_source *source = api_source_check(L);

    lua_pushstring(L, source->name != NULL ? source->name : source->config->name);
    lua_pushboolean(L, source->is_named);
    return 2;
}

static int set_exact(lua_State *L)
{
    api_source_check(L)->config->is_exact = true;
    return 0;
}

static int want(lua_State *L)
{
    static const char *const events[] = { "commit", "message", NULL };
    struct config *c = api_source_check(L)->config;

    if (luaL_checkoption(L, 2, NULL, events) == 0)
        c->wants_commits = true;
    else
        c->wants_messages = true;
    return 0;
}

/* (source, +1 or -1, [seconds that it is known to take]) */
static int pause_source(lua_State *L)
{
    struct api_source *source = api_source_check(L);
    int64_t until_ms = (int64_t)(luaL_optnumber(L, 3, 0) * 1000);

    source->pauses += (int)luaL_checkinteger(L, 2);
    if (source->pauses <= 0)
        source->paused_until_ms = 0;
    else if (until_ms > 0 && clock_mono_ms() + until_ms > source->paused_until_ms)
        source->paused_until_ms = clock_mono_ms() + until_ms;
    return 0;
}

static int is_paused(lua_State *L)
{
    lua_pushboolean(L, api_source_check(L)->pauses > 0);
    return 1;
}

static int group(lua_State *L)
{
    api_source_check(L)->group = (size_t)luaL_checkinteger(L, 2) - 1;
    return 0;
}

void api_source_export(lua_State *L)
{
    static const luaL_Reg functions[] = {
        { "declare", declare }, { "handle", handle }, { "source_count", source_count },
        { "source_name", source_name }, { "set_exact", set_exact }, { "want", want },
        { "pause", pause_source }, { "is_paused", is_paused }, { "group", group },
        { NULL, NULL },
    };

    luaL_newmetatable(L, BOX);
    lua_pushcfunction(L, drop_config);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
    luaL_setfuncs(L, functions, 0);
    lua_pushlightuserdata(L, script_of(L));
    lua_setfield(L, -2, "again");
}
