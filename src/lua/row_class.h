/* row_class.h -- what all rows of one row type share inside Lua.
 *
 * A row class holds the row type and the pieces of JSON that are the same in all its rows. In Lua
 * it is a userdata that the metatables of changes, of rows and of keys refer to. A pointer to a
 * class is valid while one of these is on the stack, whatever finalizers do. A class is freed some
 * time after nothing can reach its userdata any more: that is checked when the number of classes
 * has doubled. (A finalizer of the class itself would come too early, since another finalizer may
 * have kept a change.)
 *
 * Everything here may throw.
 *
 * SPDX-License-Identifier: MIT */
#ifndef ROW_CLASS_H
#define ROW_CLASS_H

#include "capture/chunk.h"

#include <lua.h>

extern const char *const row_class_op_names[OP_COUNT];

struct row_class_text {
    char *p;
    size_t len;
};

struct row_class {
    struct row_class *next;               /* of all classes of the state */
    bool is_alive;                        /* used while classes are freed: it can be reached */
    struct rowtype *rowtype;              /* counted reference */
    struct row_class_text *labels;        /* "\"name\":" for each column */
    struct row_class_text heads[OP_COUNT]; /* a change's JSON up to its key */
    struct row_class_text id_head;        /* "schema.table/", the start of an id */
    struct row_class_text id_head_json;   /* the same with a quote before it, as JSON */
};

/* User value of a row class: a table that change.c uses. */
enum { ROW_CLASS_SHARED = 1 };

static inline void row_class_put_text(struct buf *b, struct row_class_text text)
{
    buf_add(b, text.p, text.len);
}

/* Call it once per state. */
void row_class_open(lua_State *L);

/* Pushes a new class of rows of <source>, which holds a reference to <rowtype>. */
void row_class_push(lua_State *L, struct rowtype *rowtype, const char *source); /* [-0, +1] */

/* The class at <index>, borrowed; NULL if there is none. The second one is for a value that is
 * one. */
struct row_class *row_class_test(lua_State *L, int index);
struct row_class *row_class_from(lua_State *L, int index);

/* Binds a metatable to the class at <class_at>. The second one returns the class that a metatable
 * is bound to, borrowed, or NULL. */
void row_class_set(lua_State *L, int metatable, int class_at);
struct row_class *row_class_of_metatable(lua_State *L, int metatable);

/* The class that the metatable of the value at <index> is bound to. The first one returns it,
 * borrowed, and throws if there is none; the second one pushes it as a userdata, or nil. */
struct row_class *row_class_at(lua_State *L, int index);
void row_class_push_of(lua_State *L, int index);               /* [-0, +1] */

/* Pushes the class that a metatable is bound to, or nil. */
void row_class_push_of_metatable(lua_State *L, int metatable); /* [-0, +1] */

/* Sets mt[name] = closure(class, upvalue) in the metatable on top of the stack. <class_at> and
 * <upvalue> are absolute indexes; an upvalue of 0 is none. */
void row_class_set_method(lua_State *L, const char *name, lua_CFunction f, int class_at,
                          int upvalue);

/* Inside such a closure: the class, its first upvalue. Borrowed. */
struct row_class *row_class_upvalue(lua_State *L);

/* Pushes the method of all changes, rows and keys that has the name at <name>; nil if there is
 * none. row_class_set_methods takes them from the table on top of the stack, which is popped. */
void row_class_push_method(lua_State *L, int name);            /* [-0, +1] */
void row_class_set_methods(lua_State *L);                      /* [-1, +0] */

/* Pushes the field of the table at <index> whose name is on top of the stack and is popped; nil if
 * there is none, where a script that indexes a change or a part of one would get an error. */
void row_class_get(lua_State *L, int index);                   /* [-1, +1] */

/* Throws that there is no <what>, such as "column", of the name at <name>, in <where>, with the
 * place in the script. The list on top of the stack has the names that are there. */
int row_class_throw_unknown(lua_State *L, int name, const char *what, const char *where);

/* Pushes the name of the table of these rows, for messages. */
void row_class_push_name(lua_State *L, const struct rowtype *s); /* [-0, +1] */

/* Throws that the text of column <i> is not UTF-8, or no value of its kind. */
void row_class_throw_text(lua_State *L, const struct row_class *class, size_t i);

#endif
