/* row_class.c -- what all rows of one row type share inside Lua.
 *
 * Registry: &class_key -> the metatable of row classes. The same key leads from a metatable that is
 * bound to a class to that class. &all_key -> a table with weak keys: all classes, as userdata.
 * &list_key -> the list of all of them. &methods_key -> the methods of all changes, rows and keys,
 * by name.
 *
 * SPDX-License-Identifier: MIT */
#include "lua/row_class.h"

#include "base/text.h"
#include "lua/api_source.h"
#include "lua/frame.h"
#include "lua/id_part.h"
#include "lua/script.h"
#include "pg/types.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

const char *const row_class_op_names[OP_COUNT] = { "read", "upsert", "insert", "update", "delete" };

static const char class_key, methods_key, all_key, list_key;

/* All classes of the state. */
struct list {
    struct row_class *first;
    size_t n;
    size_t most; /* when there are so many, those that are not reachable are freed */
};

#define MOST_AT_FIRST 64

/* The content of the userdata that is a class in Lua. */
struct box {
    struct row_class *class;
};

static void free_class(struct row_class *class)
{
    for (size_t i = 0; class->labels != NULL && i < class->rowtype->n_columns; i++)
        free(class->labels[i].p);
    free(class->labels);
    for (size_t op = 0; op < OP_COUNT; op++)
        free(class->heads[op].p);
    free(class->id_head.p);
    free(class->id_head_json.p);
    rowtype_unref(class->rowtype);
    free(class);
}

/* Frees the classes that are not <is_alive>, and clears that flag of the others. */
static void free_dead(struct list *list)
{
    struct row_class **at = &list->first;

    while (*at != NULL) {
        struct row_class *class = *at;

        if (class->is_alive) {
            class->is_alive = false;
            at = &class->next;
        } else {
            *at = class->next;
            list->n--;
            free_class(class);
        }
    }
}

static int free_list(lua_State *L)
{
    free_dead(lua_touserdata(L, 1)); /* none is_alive, so all are freed */
    return 0;
}

/* The list is made before any script runs, so its finalizer is the last one of the state. */
void row_class_open(lua_State *L)
{
    struct list *list;

    lua_createtable(L, 0, 1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &class_key);
    lua_createtable(L, 0, MOST_AT_FIRST);                      /* all */
    lua_createtable(L, 0, 1);
    lua_pushliteral(L, "k");
    lua_setfield(L, -2, "__mode");
    lua_setmetatable(L, -2);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &all_key);
    list = lua_newuserdatauv(L, sizeof *list, 0);              /* list */
    *list = (struct list){ .most = MOST_AT_FIRST };
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, free_list);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &list_key);
}

/* Frees classes that nothing can reach: the collector has dropped them from the table &all_key. (It
 * keeps those that can be reached from objects that are finalized, or will be.) */
static void free_unreachable(lua_State *L, struct list *list)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &all_key);               /* all */
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1))
        row_class_from(L, -2)->is_alive = true;
    lua_pop(L, 1);
    free_dead(list);
    list->most = list->n > MOST_AT_FIRST / 2 ? list->n * 2 : MOST_AT_FIRST;
}

/* Moves what was built in <b> to <to>, which owns it, and throws if it is not all there or not
 * UTF-8. */
static void keep(lua_State *L, struct buf *b, bool is_utf8, struct row_class_text *to)
{
    to->len = b->len;
    to->p = buf_take(b);
    if (to->p == NULL)
        luaL_error(L, "out of memory");
    if (!is_utf8)
        luaL_error(L, "the name of a table or of a column is not valid UTF-8");
}

static void make_label(lua_State *L, const char *name, struct row_class_text *to)
{
    struct buf b;
    bool ok;

    buf_init(&b, SIZE_MAX / 2);
    ok = types_put_string(&b, name, strlen(name));
    buf_putc(&b, ':');
    keep(L, &b, ok, to);
}

static void make_head(lua_State *L, const struct rowtype *s, const char *op,
                      struct row_class_text *to)
{
    struct buf b;
    bool ok;

    buf_init(&b, SIZE_MAX / 2);
    buf_printf(&b, "{\"op\":\"%s\",\"schema\":", op);
    ok = types_put_string(&b, s->schema, strlen(s->schema));
    buf_puts(&b, ",\"table\":");
    ok = types_put_string(&b, s->table, strlen(s->table)) && ok;
    buf_puts(&b, ",\"key\":");
    keep(L, &b, ok, to);
}

/* True if the script has a source that connects elsewhere than this one: tables of two databases
 * may have the same name, and their rows the same xids. */
static bool is_one_of_several(const struct script *s, const char *source)
{
    const char *own = NULL;

    for (size_t i = 0; i < s->n_sources; i++)
        if (s->sources[i].name != NULL && strcmp(s->sources[i].name, source) == 0)
            own = s->sources[i].config->conninfo;
    for (size_t i = 0; i < s->n_sources; i++) {
        const char *other = s->sources[i].config->conninfo;

        if ((own == NULL) != (other == NULL) || (own != NULL && strcmp(own, other) != 0))
            return true;
    }
    return false;
}

static void put_part(struct buf *b, const char *s, const char *separators)
{
    size_t len = strlen(s);
    char *to = buf_reserve(b, 3 * len);

    if (to != NULL)
        b->len += id_part_write(to, s, len, separators);
}

/* Appends the start of an id. If sources connect to several databases, the name of the source tells
 * their ids apart, since it is unique in a script; it is left out where it is "schema.table", which
 * only one source can have. */
static void put_id_head(lua_State *L, const struct rowtype *s, const char *source, struct buf *b)
{
    struct buf name;
    bool is_other;

    buf_init(&name, SIZE_MAX / 2);
    buf_printf(&name, "%s.%s", s->schema, s->table);
    is_other = buf_ok(&name) && !s->is_by_hand && source != NULL &&
               strcmp(name.data, source) != 0;
    buf_fini(&name);
    if (is_other && is_one_of_several(script_of(L), source)) {
        put_part(b, source, ":/");
        buf_putc(b, ':');
    }
    put_part(b, s->schema, ".:/");
    buf_putc(b, '.');
    put_part(b, s->table, "/");
    buf_putc(b, '/');
}

static void make_id_heads(lua_State *L, struct row_class *class, const char *source)
{
    struct buf b;
    bool ok;

    buf_init(&b, SIZE_MAX / 2);
    put_id_head(L, class->rowtype, source, &b);
    keep(L, &b, true, &class->id_head);
    buf_init(&b, SIZE_MAX / 2);
    ok = types_put_string(&b, class->id_head.p, class->id_head.len);
    if (ok)
        b.len--; /* the quote: an id goes on */
    keep(L, &b, ok, &class->id_head_json);
}

/* Pushes a class that has only its row type. */
static struct row_class *push_empty(lua_State *L, struct rowtype *rowtype) /* [-0, +1] */
{
    struct box *box = lua_newuserdatauv(L, sizeof *box, ROW_CLASS_SHARED); /* class */
    struct list *list;

    *box = (struct box){ NULL };
    lua_rawgetp(L, LUA_REGISTRYINDEX, &list_key);
    list = lua_touserdata(L, -1);
    lua_pop(L, 1); /* it stays in the registry */
    if (list->n >= list->most)
        free_unreachable(L, list);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &all_key);               /* class all */
    box->class = calloc(1, sizeof *box->class);
    if (box->class == NULL)
        luaL_error(L, "out of memory");
    box->class->rowtype = rowtype_ref(rowtype);
    box->class->next = list->first;
    list->first = box->class;
    list->n++;
    lua_pushvalue(L, -2);
    lua_pushboolean(L, true);
    lua_rawset(L, -3);
    lua_pop(L, 1);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &class_key);
    lua_setmetatable(L, -2);
    return box->class;
}

void row_class_push(lua_State *L, struct rowtype *rowtype, const char *source)
{
    struct row_class *class = push_empty(L, rowtype);          /* class */

    class->labels = calloc(rowtype->n_columns + 1, sizeof *class->labels);
    if (class->labels == NULL)
        luaL_error(L, "out of memory");
    for (size_t i = 0; i < rowtype->n_columns; i++)
        make_label(L, rowtype->columns[i].name, &class->labels[i]);
    for (size_t op = 0; op < OP_COUNT; op++)
        make_head(L, rowtype, row_class_op_names[op], &class->heads[op]);
    make_id_heads(L, class, source);
}

struct row_class *row_class_from(lua_State *L, int index)
{
    const struct box *box = lua_touserdata(L, index);

    return box != NULL ? box->class : NULL;
}

struct row_class *row_class_test(lua_State *L, int index)
{
    struct row_class *class = NULL;

    if (lua_type(L, index) == LUA_TUSERDATA && lua_getmetatable(L, index)) {
        lua_rawgetp(L, LUA_REGISTRYINDEX, &class_key);         /* mt ours */
        if (lua_rawequal(L, -1, -2))
            class = row_class_from(L, index);
        lua_pop(L, 2);
    }
    return class;
}

void row_class_set(lua_State *L, int metatable, int class_at)
{
    metatable = lua_absindex(L, metatable);
    lua_pushvalue(L, class_at);
    lua_rawsetp(L, metatable, &class_key);
}

struct row_class *row_class_of_metatable(lua_State *L, int metatable)
{
    struct row_class *class;

    lua_rawgetp(L, metatable, &class_key);
    class = row_class_from(L, -1);
    lua_pop(L, 1);
    return class;
}

struct row_class *row_class_at(lua_State *L, int index)
{
    struct row_class *class = NULL;

    if (lua_getmetatable(L, index)) {
        class = row_class_of_metatable(L, -1);
        lua_pop(L, 1);
    }
    if (class == NULL)
        luaL_error(L, "this is not a change, nor a part of one");
    return class;
}

void row_class_push_of(lua_State *L, int index)
{
    if (!lua_getmetatable(L, index)) {
        lua_pushnil(L);
        return;
    }
    lua_rawgetp(L, -1, &class_key);
    lua_remove(L, -2);
}

void row_class_push_of_metatable(lua_State *L, int metatable)
{
    lua_rawgetp(L, metatable, &class_key);
}

struct row_class *row_class_upvalue(lua_State *L)
{
    return row_class_from(L, lua_upvalueindex(1));
}

void row_class_set_method(lua_State *L, const char *name, lua_CFunction f, int class_at,
                          int upvalue)
{
    lua_pushvalue(L, class_at);
    if (upvalue != 0)
        lua_pushvalue(L, upvalue);
    lua_pushcclosure(L, f, upvalue != 0 ? 2 : 1);
    lua_setfield(L, -2, name);
}

void row_class_set_methods(lua_State *L)
{
    lua_rawsetp(L, LUA_REGISTRYINDEX, &methods_key);
}

void row_class_push_method(lua_State *L, int name)
{
    name = lua_absindex(L, name);
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &methods_key) == LUA_TNIL)
        return;
    lua_pushvalue(L, name);
    lua_rawget(L, -2);
    lua_remove(L, -2);
}

void row_class_get(lua_State *L, int index)
{
    index = lua_absindex(L, index);
    if (luaL_getmetafield(L, index, "__get") == LUA_TNIL) {    /* name */
        lua_gettable(L, index);
        return;
    }
    lua_insert(L, -2);                                         /* get name */
    lua_pushvalue(L, index);
    lua_insert(L, -2);
    lua_call(L, 2, 1);
}

int row_class_throw_unknown(lua_State *L, int name, const char *what, const char *where)
{
    int list = lua_gettop(L);
    size_t n = (size_t)lua_rawlen(L, list);
    const char **names = lua_newuserdatauv(L, (n + 1) * sizeof *names, 0), *found;

    for (size_t i = 0; i < n; i++) {
        lua_rawgeti(L, list, (lua_Integer)i + 1);
        names[i] = lua_tostring(L, -1); /* anchored in the list */
        lua_pop(L, 1);
    }
    found = text_nearest(lua_tostring(L, name), names, n);
    frame_push_place(L, script_of(L)->o.lua_dir);
    lua_pushfstring(L, "%sthere is no %s '%s' in %s%s%s%s (:get(\"%s\") gives nil where there is "
                    "none)", lua_tostring(L, -1), what, lua_tostring(L, name), where,
                    found != NULL ? "; did you mean '" : "", found != NULL ? found : "",
                    found != NULL ? "'?" : "", lua_tostring(L, name));
    return lua_error(L);
}

void row_class_push_name(lua_State *L, const struct rowtype *s)
{
    if (*s->table == '\0')
        lua_pushliteral(L, "a row");
    else if (*s->schema == '\0')
        lua_pushstring(L, s->table);
    else
        lua_pushfstring(L, "%s.%s", s->schema, s->table);
}

void row_class_throw_text(lua_State *L, const struct row_class *class, size_t i)
{
    static const char *const what[] = {
        [TYPES_BOOL] = "no boolean", [TYPES_INT] = "no integer", [TYPES_FLOAT] = "no number",
        [TYPES_JSON] = "no JSON, or not valid UTF-8", [TYPES_TEXT] = "not valid UTF-8",
        [TYPES_NUMERIC] = "not valid UTF-8", [TYPES_BYTEA] = "not valid UTF-8",
        [TYPES_TIMESTAMP] = "not valid UTF-8",
    };

    luaL_error(L, "column %s of %s.%s holds text that is %s", class->rowtype->columns[i].name,
               class->rowtype->schema, class->rowtype->table,
               what[class->rowtype->columns[i].kind]);
}
