/* bind_source.h -- sources and their handlers, as scripts declare them. floor 4
 *
 * Exports to Lua (module pgcdc.raw): declare(spec) -> number of the source,
 * handle(number, event, function or nil). lua/pgcdc/source.lua makes of it
 * what users see, and checks what they wrote.
 *
 * SPDX-License-Identifier: MIT */
#ifndef BIND_SOURCE_H
#define BIND_SOURCE_H

#include "script.h"
#include "survey.h"

enum event {
    EVENT_READ, EVENT_UPSERT, EVENT_INSERT, EVENT_UPDATE, EVENT_DELETE, /* one change */
    EVENT_BATCH, EVENT_READY, EVENT_SCHEMA, EVENT_ERROR,
    EVENT_COUNT
};

struct declared {
    struct source_config *config; /* owned */
    char *name;                   /* owned; NULL until known */
    int handlers[EVENT_COUNT];    /* registry references; LUA_NOREF: nobody listens */
    int metatable;                /* of its changes, see push.h */
};

/* Adds the functions to the module on top of the stack. */
void bind_source(lua_State *L);

/* What the script declared; the pointers are borrowed until bind_source_free. */
void bind_source_free(struct script *s);

#endif
