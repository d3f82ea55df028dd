/* api_source.h -- sources and their handlers, as scripts declare them.
 *
 * Exports to Lua (module pgcdc.raw): declare(spec) -> number of the source,
 * handle(number, event, function or nil), source_count(), source_name(number),
 * pause(number, by): its changes wait while the sum of <by> is above 0,
 * again: a handler that returns it gets the same change again, when the source is not paused,
 * group(number, group): positions of a group are saved together.
 * lua/pgcdc/stream/source.lua makes of it what users see, and checks what they wrote.
 *
 * SPDX-License-Identifier: MIT */
#ifndef API_SOURCE_H
#define API_SOURCE_H

#include "lua/script.h"
#include "capture/config.h"

enum event {
    EVENT_READ, EVENT_UPSERT, EVENT_INSERT, EVENT_UPDATE, EVENT_DELETE, /* one change */
    EVENT_BATCH, EVENT_READY, EVENT_SCHEMA, EVENT_ERROR, EVENT_TRUNCATE,
    EVENT_COUNT
};

struct declared {
    struct config *config; /* owned */
    char *name;                   /* owned; NULL until known */
    int handlers[EVENT_COUNT];    /* registry references; LUA_NOREF: nobody listens */
    int metatable;                /* of its changes, see change.h */
    int pauses;                   /* > 0: its changes wait */
    size_t group;                 /* the same number for all sources of a group */
    uint64_t seq;                 /* of the poll or range in hand, or of the last one */
    uint64_t saved_note;          /* what the saved position accounts for, see kept_rows.h */
    char *position;               /* owned; its position as text, for hooks_settle */
};

/* Adds the functions to the module on top of the stack. */
void api_source_export(lua_State *L);

/* What the script declared; the pointers are borrowed until api_source_free. */
void api_source_free(struct script *s);

#endif
