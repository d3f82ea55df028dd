/* script.h -- the Lua state, and the one protected door into it.
 *
 * Everything that can throw runs inside `script_call`. A function whose first parameter is a
 * lua_State may throw; one that takes a struct script never does. Nothing inside the door owns C
 * memory: scratch is script_scratch, a resource is a userdata with __gc.
 *
 * Limits guard against accidents, not against attacks: the time limit is checked between Lua
 * instructions, so it cannot interrupt one long call of a C function such as string.find.
 *
 * SPDX-License-Identifier: MIT */
#ifndef SCRIPT_H
#define SCRIPT_H

#include "base/beat.h"
#include "base/buf.h"
#include "base/log.h"
#include "lua/pool.h"
#include "state/role.h"
#include "state/seq.h"

#include <lua.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>

struct script_options {
    const char *version;      /* of the program */
    const char *path;         /* of the script */
    const char *lua_dir;      /* where pgcdc/init.lua is */
    const char *scripts_dir;  /* the bundled scripts */
    const char *modules_dir;  /* modules in C, see lua/native.h */
    char *const *words;       /* NAME=VALUE */
    size_t n_words;
    char *const *files;       /* of --test and the like: the rest of the command line */
    size_t n_files;
    const char *dsn;          /* of sources that name none */
    const char *state;        /* the state file; NULL: nothing is kept */
    const char *database;     /* where state is kept instead, a conninfo; NULL: in the file. Then
                               * files for this machine alone stand beside <state> */
    const char *pipeline;     /* its name in the database */
    int lease_s;              /* seconds after which another process may take it over */
    bool is_worker;           /* it is one partition's, as host/member.h has it: */
    int partition;            /* this one's */
    const char *record;       /* --record: a file; NULL: none */
    const char *replay;       /* --replay: a recording; NULL: none */
    const char *state_asked;  /* --check: the state file, or the pipeline of <database>, that a run
                               * would have; else NULL */
    bool as_json;             /* --check: prints JSON */
    bool resets;              /* --reset */
    const char *reset;        /* the source that it names, or NULL for all */
    size_t max_memory;        /* bytes; 0: no limit */
    int64_t max_time_ns;      /* of one handler call; 0: no limit */
    bool is_sandboxed;
    bool has_network;         /* sinks that connect to a server may be used: outside of the sandbox,
                                 or by --allow-network */
    struct log *log;
    const atomic_int *stop;   /* set when the program was asked to stop */
    int stop_fd;              /* readable from then on */
};

/* Functions of the Lua half of the program that the host calls; see hooks.c for their arguments. */
enum script_hook {
    SCRIPT_HOOK_TIMERS, SCRIPT_HOOK_START, SCRIPT_HOOK_ENTER, SCRIPT_HOOK_LEAVE,
    SCRIPT_HOOK_RESOLVED, SCRIPT_HOOK_READING, SCRIPT_HOOK_READY,
    SCRIPT_HOOK_CHECKPOINT, SCRIPT_HOOK_LAST, SCRIPT_HOOK_FINISH, SCRIPT_HOOK_GRAPH,
    SCRIPT_HOOK_CHECK, SCRIPT_HOOK_CHECKED, SCRIPT_HOOK_WIRE, SCRIPT_HOOK_FIGURES,
    SCRIPT_HOOK_CONTROL, SCRIPT_HOOK_FEED, SCRIPT_HOOK_FETCH, SCRIPT_HOOK_GROUP,
    SCRIPT_HOOK_COUNT
};

struct message;
struct recording;
struct script_figures;

struct script {
    lua_State *L;
    struct script_options o;  /* what it points to is borrowed */
    struct buf scratch[2];    /* see script_scratch */
    struct buf line[2];       /* see script_line */
    char *traceback;          /* of the last failure, or NULL */
    bool has_traceback;       /* it belongs to the error that is being thrown */
    bool is_loaded;           /* the main chunk has returned: no more sources */
    bool is_usage_error;      /* the failure is about NAME=VALUE words on the command line */
    bool is_stopping;         /* pgcdc.stop() was called */
    int stop_status;
    /* limits */
    size_t memory;
    struct pool pool;
    int64_t deadline_ns;      /* 0: none */
    bool is_out_of_time;
    /* what the script declared: see api_source.h */
    struct api_source *sources;
    size_t n_sources, cap_sources;
    int hooks[SCRIPT_HOOK_COUNT]; /* registry references */
    struct store *store;      /* see api_state.h; NULL until it is needed */
    struct role *role;        /* borrowed; whether this process leads */
    bool (*pause)(void *arg, int64_t ms, struct err *e); /* or NULL: see database_options */
    void *pause_arg;
    void (*tell_saved)(void *arg, const char *source, const char *position); /* or NULL: a position
                               * was saved; both are texts */
    void (*tell_tick)(void *arg); /* or NULL: some milliseconds have passed in the middle of a
                               * delivery. Must not use the state */
    void (*tell_figures)(void *arg, struct script_figures *f); /* or NULL: the Lua half has new
                               * ones, which move */
    void *tell_arg;
    bool (*take_fed)(void *arg, struct message *m); /* takes <m> over, to be delivered behind those
                               * that it took before; see api_feed.h. False: nobody takes any */
    void *fed_arg;
    bool is_member;           /* it runs no pipeline, and starts workers: see api_worker.h */
    bool is_ready;            /* all workers are ready */
    bool wants_report;        /* a user wants to be told how they are */
    bool (*start_worker)(void *arg, int partition, bool is_first, pid_t *pid, int *fd,
                         struct err *e); /* or NULL: nothing is started now */
    void *worker_arg;
    void (*tell_tap)(void *arg, size_t source, const char *line, size_t len); /* see tap.h: a line
                               * of JSON. Must not use the state */
    void *tap_arg;
    struct beat *beat;        /* borrowed, or NULL */
    bool is_timed;            /* somebody watches: what handlers do is timed */
    struct recording *recording; /* borrowed: gets all that is delivered; or NULL */
    struct seq seq;           /* numbers for changes */
    bool wants_flush;         /* a sink asks for a checkpoint at the next row where one may be */
    bool has_outboxes;        /* there is a sink that sends over the network */
    struct script_watch {
        int fd, function;     /* a registry reference */
        short events;         /* as of poll() */
    } *watches;               /* owned: see api_watch.h */
    size_t n_watches, cap_watches;
    bool is_held_back;        /* a checkpoint was captured that may not be saved yet */
    lua_CFunction explain;    /* see explain.h; NULL until it is needed */
    struct err cause;         /* why the failure happened, where it was not the script's */
};

/* Makes a state with the standard libraries, less what the sandbox forbids. Borrows what <o>
 * points to. Returns owned, or NULL. */
struct script *script_new(const struct script_options *o, struct err *e);
void script_free(struct script *s);

/* Calls <f> with <job> as its one argument, a light userdata. If it throws: the error in s->cause,
 * where that was set; ERR_USAGE for wrong NAME=VALUE words; ERR_MEMORY; else ERR_SCRIPT, with the
 * message of what was thrown. s->traceback tells from where. */
bool script_call(struct script *s, lua_CFunction f, void *job, struct err *e) WARN_UNUSED;

/* What to connect with for the value at <index>: a connection string, which becomes what
 * conninfo_expand, or in the sandbox conninfo_confine, makes of it (throws if that fails), or the
 * light userdata that stands for --dsn, so that no script can ever read that. Every connection that
 * Lua asks for comes by here. Borrowed from the value that is pushed. */
const char *script_push_conninfo(lua_State *L, int index);     /* [-0, +1] */
void script_push_dsn(lua_State *L);                            /* [-0, +1] */

/* The script of a state. Borrowed. */
struct script *script_of(lua_State *L);

/* An empty buffer, for functions inside the door; valid until the next call. No Lua code may run
 * while it is used. (Finalizers may, in any allocation: they get another buffer.) The second one is
 * the same for a line whose parts are made in the first. */
struct buf *script_scratch(lua_State *L);
struct buf *script_line(lua_State *L);

/* Sets the traceback of the error that is about to be thrown, if it came from elsewhere. Copies
 * <text>. */
void script_set_traceback(struct script *s, const char *text);

/* Pushes the traceback from <level> on: the script's frames; with --log-level debug all. */
void script_push_traceback(lua_State *L, int level);           /* [-0, +1] */

/* Starts the time of one handler call. */
void script_start_clock(struct script *s);

/* Call it when a failure was caught for good: if the time was over, it starts again. */
void script_forgive(struct script *s);

/* Loads a file as text; pushes the function. Throws what is wrong with it. */
void script_push_file(lua_State *L, const char *path);

/* Opens a file without a name, in the folder of the state file if that is there. Returns a
 * descriptor, owned, or -1 with errno set. */
int script_open_unnamed(const struct script *s);

/* True if handlers must not get any more changes. */
bool script_should_stop(const struct script *s);

#endif
