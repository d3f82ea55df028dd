/* database.h -- the state of pipelines in a database of Postgres, in place of a state file.
 *
 * What a state file holds stands in the schema pgcdc there:
 *   state       (pipeline, kind, name, key, value, saved): the records of store.h
 *   state_rows  (pipeline, source, id, ...): the rows of kept_table.h
 *   lease       (pipeline, owner, epoch, expires, since, host, pid, ...): who is at work
 *   standby     (pipeline, owner, host, pid, seen, wished): who waits
 * name, key and value are bytea, since scripts may keep any bytes.
 *
 * A pipeline belongs to one process at a time. Who begins adds one to its epoch, and each save
 * compares that in its own transaction, under a lock of the row: one who was taken over cannot
 * save any more. A save is tried again while the database is away, without end, until the program
 * is to stop; whether an interrupted one was committed is told by its number, the record "save".
 *
 * A save goes over in one message: the transaction begins with a statement that fails unless epoch
 * and number are ours, so that nobody need wait for its answer. Only many rows at once go by COPY.
 *
 * Errors are ERR_STATE and name the database, never a password; ERR_TAKEN: another process has
 * taken over.
 *
 * SPDX-License-Identifier: MIT */
#ifndef DATABASE_H
#define DATABASE_H

#include "state/database_load.h"
#include "state/role.h"
#include "state/writes.h"

struct database;

/* Says a sentence to whoever runs the program. */
typedef void database_says(void *arg, const char *text);

/* What a database is opened with; all borrowed, the texts until database_open returns. */
struct database_options {
    const char *conninfo;
    const char *pipeline; /* its name */
    int lease_s;          /* seconds after which another process may take over */
    int stop_fd;          /* readable from when the program is to stop */
    bool at_once;         /* fails rather than wait, for another process or for the database */
    bool must_exist;      /* fails where nothing is kept of the pipeline */
    database_says *says;  /* what is waited for, and for how long it is tried */
    bool (*pause)(void *arg, int64_t ms, struct err *e); /* waits for the pipeline: so long, or
                             until <role> wishes something. False: why not. NULL: just waits */
    void *arg;
    struct role *role;    /* is told whether this process leads; outlives the database */
};

/* True if the value of --state names a database, and no file: a URI, or a conninfo string. */
bool database_is_named(const char *state);

/* Looks whether a state can be kept there, and changes nothing. Appends what the database is
 * called, once that is known, a NUL, and what a run would find. Of <o> only conninfo, pipeline and
 * stop_fd count. */
bool database_look(const struct database_options *o, struct buf *text, struct err *e) WARN_UNUSED;

/* Connects, makes the tables where they are not there, and takes the pipeline, for which it waits
 * while another process has it. Returns owned, or NULL. */
struct database *database_open(const struct database_options *o, struct err *e);

/* Gives the pipeline back, if that can be done at once. Takes NULL too. */
void database_close(struct database *d);

/* Takes all that is kept of the pipeline away, and its lease. */
bool database_remove(struct database *d, struct err *e) WARN_UNUSED;

/* Reads all that is kept of the pipeline, as database_load_all. */
bool database_load(struct database *d, const struct database_load_visit *visit,
                   struct err *e) WARN_UNUSED;

/* *may: nobody else can be at work on the pipeline, so that changes may be delivered. False with
 * ERR_TAKEN: another process is. */
bool database_may_work(struct database *d, bool *may, struct err *e) WARN_UNUSED;

/* The number of the lease that this process has: larger than that of any who had the pipeline
 * before. */
uint64_t database_epoch(const struct database *d);

/* True while nobody else can have the pipeline. Does not block. */
bool database_leads(const struct database *d);

/* Asks the database whether the pipeline is still ours; while it is away that is tried again. False
 * with ERR_TAKEN: another process has it. */
bool database_confirm(struct database *d, struct err *e) WARN_UNUSED;

/* What the open transaction changes; to be committed by database_save, or cleared. */
struct writes *database_writes(struct database *d);

/* Commits what was written, and clears it. False: nothing was changed there, or the program must
 * end since it cannot know. */
bool database_save(struct database *d, struct err *e) WARN_UNUSED;

#endif
