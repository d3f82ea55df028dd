/* store.h -- the state: what outlives the process, in a file or a database.
 *
 * One SQLite database for one process at a time: it is locked as long as it
 * is open. Write-ahead log with synchronous = FULL, so that what was saved
 * survives a power loss. Mode 0600. Holds no password. Where state is kept in a database of
 * Postgres (see database.h) the file is a copy of it, without a name, for this process alone.
 *
 * Records are text under a kind, a name and a key:
 *   position  source   ""   where the source is, see position_text.h
 *   state     name     key  a value that a script keeps, JSON
 *   sink      name     ""   how far a sink has come, JSON
 *   commit    name     ""   the savepoint that a sink stored with its data, JSON
 *   prepared  name     ""   the savepoint that a sink is about to store as a short text, JSON
 *   serial    ""       ""   the number of the newest savepoint
 *   seq       ""       ""   no change was given a number beyond this one
 *   pipeline  ""       ""   tells this state file from others
 *   paused    source   ""   a user has paused it
 *   save      ""       ""   in a database only: the number of the last save
 *   epoch     ""       ""   from a database: the number of the newest lease, which only grows
 *   epoch     ""       ""   in a database: that of the last lease
 *   move      ""       ""   it was copied elsewhere, or from there, see transfer.h
 *   former    ""       ""   what it was called before it was reset, each followed by a blank
 * and those of kind "form", see kept_columns.h.
 *
 * All errors are ERR_STATE and name the file, but for those of a database, see database.h.
 *
 * SPDX-License-Identifier: MIT */
#ifndef STORE_H
#define STORE_H

#include "capture/position.h"

/* The columns of the other tables that a state file may hold: see kept_table.c (rows, in pages;
 * STORE_ROWS is the older kind) and kept_index_file.h. A file with anything else (a trigger, a
 * view, other columns) is refused. */
#define STORE_ROWS " (id INTEGER PRIMARY KEY, hash INTEGER NOT NULL, xid INTEGER NOT NULL," \
                   " digest INTEGER NOT NULL, flags INTEGER NOT NULL, note INTEGER NOT NULL," \
                   " sum INTEGER NOT NULL, key BLOB NOT NULL, form INTEGER, row BLOB, older BLOB)"
#define STORE_PAGES " (first INTEGER PRIMARY KEY, sum INTEGER NOT NULL, data BLOB NOT NULL)"
#define STORE_IMAGE " (part INTEGER PRIMARY KEY, sum INTEGER NOT NULL, data BLOB NOT NULL)"

struct store;

/* Makes the folders above <path>, where they are not there. */
bool store_make_folder(const char *path, struct err *e) WARN_UNUSED;

/* Opens or creates <path> and the folders above it. Returns owned, or NULL. */
struct store *store_open(const char *path, struct err *e);

/* The same for a store without a name, which is empty and goes when it is closed. */
struct store *store_open_temporary(struct err *e);

void store_close(struct store *s);

/* A run of bytes, borrowed. */
struct store_slice {
    const char *p; /* NULL: there is none */
    size_t len;
};

struct store_record {
    struct store_slice kind, name, key, value;
    uint64_t change; /* of a position: the number of the last change that it accounts for */
};

/* Saves records, together: all of them or, where something fails, none.
 *   store_begin; store_put...; store_commit
 * A record without a value is removed. Durable when store_commit returns. */
bool store_begin(struct store *s, struct err *e) WARN_UNUSED;
bool store_put(struct store *s, const struct store_record *r, struct err *e) WARN_UNUSED;
bool store_commit(struct store *s, struct err *e) WARN_UNUSED;
void store_rollback(struct store *s);

/* How often something was, or may have been, rolled back. */
unsigned store_rollbacks(const struct store *s);

/* Reads all records of a kind and a name:
 *   store_find; while (store_next) ...
 * What store_next hands out is valid until the next call. Call it until it returns false;
 * e->code is ERR_NONE if that was the end. */
bool store_find(struct store *s, const char *kind, const char *name, struct err *e) WARN_UNUSED;
bool store_next(struct store *s, struct store_record *r, struct err *e) WARN_UNUSED;

/* Ends a store_find before its end. */
void store_leave(struct store *s);

/* The number of the last change that the saved position of <source> accounts for; 0: of none. */
uint64_t store_saved_change(const struct store *s, const char *source);

/* The position kept under <source>; *found false and <p> zeroed if there is none. */
bool store_load(struct store *s, const char *source, struct position *p, bool *found,
                struct err *e) WARN_UNUSED;

/* True if there is a position of the table <name>, in whatever schema if it names none. */
bool store_has_position(struct store *s, const char *name);

/* Forgets the position of <source>; <is_any_schema>: also of those named SCHEMA.<source>. *n: how
 * many there were. */
bool store_forget(struct store *s, const char *source, bool is_any_schema, int *n,
                  struct err *e) WARN_UNUSED;

/* Forgets all that is kept. */
bool store_forget_all(struct store *s, struct err *e) WARN_UNUSED;

/* Another home of what is kept, which counts: a transaction is committed there first. */
struct writes;
struct store_home {
    void *arg;              /* of the functions */
    struct writes *writes;  /* what the open transaction changes, see kept_table.c */
    void (*clear)(void *arg); /* forgets what the open transaction changes */
    void (*put)(void *arg, const struct store_record *r);
    void (*forget)(void *arg, const char *source, bool is_any_schema);
    void (*forget_all)(void *arg);
    bool (*may_work)(void *arg, bool *may, struct err *e); /* see store_may_work */
    bool (*leads)(void *arg);                              /* see store_leads */
    bool (*confirm)(void *arg, struct err *e);             /* see store_confirm */
    bool (*save)(void *arg, struct err *e); /* commits, and forgets what was changed */
    void (*close)(void *arg);
    uint64_t epoch;         /* see store_epoch */
};

/* From now on the store has that home, which it closes. */
void store_set_home(struct store *s, const struct store_home *home);

/* *may: changes may be delivered. False with ERR_TAKEN: another process does that. */
bool store_may_work(struct store *s, bool *may, struct err *e) WARN_UNUSED;

/* The number of this process among those that have had the pipeline, which only grows; 0: the state
 * is in a file, and nobody counts. */
uint64_t store_epoch(const struct store *s);

/* Asks the home whether the pipeline is still ours, and waits while it is away. False with
 * ERR_TAKEN: another process has it. */
bool store_confirm(struct store *s, struct err *e) WARN_UNUSED;

/* True while nobody else can have the pipeline. Does not block. */
bool store_leads(const struct store *s);

/* For kept_table.c: writes of the home, NULL where there is none. After something was added to them
 * store_save_alone commits it there if no transaction is open. */
struct writes *store_writes(struct store *s);
bool store_save_alone(struct store *s, struct err *e) WARN_UNUSED;

/* For kept_table.c and kept_index_file.c, which keep tables of their own in the file. <format> has
 * one %s, for <table>; *st is the caller's to finalize, also after a failure. */
struct sqlite3;
struct sqlite3_stmt;
struct sqlite3 *store_sqlite(struct store *s);
bool store_prepare(struct store *s, const char *format, const char *table,
                   struct sqlite3_stmt **st, struct err *e) WARN_UNUSED;
bool store_fail(const struct store *s, struct err *e);
bool store_damaged(const struct store *s, const char *what, struct err *e);

#endif
