/* api_source.h -- sources and their handlers, as scripts declare them.
 *
 * Exports to Lua (module pgcdc.raw):
 *   declare(spec) -> the number of the source;
 *   handle(number, event, function or nil): sets its handler of an event;
 *   source_count(); source_name(number) -> text, true if it is the name that is saved: until the
 *     source has reached its server it is what the script calls the table;
 *   pause(number, by): its changes wait while the sum of <by> is above 0;
 *   again: a handler that returns it gets the same change again, when the source is not paused;
 *   group(number, group): positions of a group are saved together;
 *   want(number, "commit" or "message"): these events are to come, by the log; before the host
 *     reads any source;
 *   set_exact(number): after a crash those who listen have what the saved position says, no more.
 * Users see all this through lua/pgcdc/stream/source.lua, which checks what they wrote.
 *
 * SPDX-License-Identifier: MIT */
#ifndef API_SOURCE_H
#define API_SOURCE_H

#include "base/histogram.h"
#include "capture/op.h"
#include "capture/rowtype.h"
#include "lua/script.h"

enum api_source_event {
    /* one change, in the order of enum op */
    API_SOURCE_READ, API_SOURCE_UPSERT, API_SOURCE_INSERT, API_SOURCE_UPDATE, API_SOURCE_DELETE,
    API_SOURCE_BATCH, API_SOURCE_READY, API_SOURCE_SCHEMA, API_SOURCE_ERROR, API_SOURCE_TRUNCATE,
    API_SOURCE_COMMIT, API_SOURCE_MESSAGE,
    API_SOURCE_COLUMNS, /* changes with these columns are to come: gets an example, all NULL */
    API_SOURCE_EVENTS
};

struct api_source {
    struct config *config; /* owned */
    char *name;            /* owned; NULL before the host runs */
    bool is_named;         /* <name> is what is saved, not what the script calls the table */
    int handlers[API_SOURCE_EVENTS]; /* registry references; LUA_NOREF where there is none */
    int metatable;         /* of its changes, see change.h */
    int direct;            /* registry reference, see api_direct.h; LUA_NOREF: there is none */
    struct rowtype *announced; /* counted reference: of the last API_SOURCE_COLUMNS, or NULL */
    int pauses;            /* > 0: its changes wait, */
    int64_t paused_until_ms; /* by clock_mono_ms, at least until then; 0: nobody knows */
    bool is_tapped;        /* a user wants to see its changes, see tap.h */
    bool is_paused;        /* a user has paused it: nothing is read, */
    int64_t user_paused_us;/* in this run since then, by clock_wall_us */
    uint64_t delivered[OP_COUNT]; /* changes that were delivered, by op; nobody may have listened */
    int64_t delivered_us;  /* when the last one was, by clock_wall_us; 0: none was */
    struct histogram took; /* by change, in handlers and operators; see is_timed of script.h */
    size_t group;          /* the same number for all sources of a group */
};

/* The source whose number is at index 1, borrowed until another one is declared. Throws if there is
 * none. */
struct api_source *api_source_check(lua_State *L);

/* Adds the functions to the module on top of the stack. */
void api_source_export(lua_State *L);

/* Frees what the script declared, s->sources. */
void api_source_free(struct script *s);

#endif
