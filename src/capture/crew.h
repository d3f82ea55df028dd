/* crew.h -- the threads of one database: schedule, reconnect, retry.
 *
 * Each thread has a connection of its own. There are as many as the database has
 * units (sources that are read together are one unit, see unit.h), at most 8 or what
 * <connections> of a source says; more units share them, the longest due first. A
 * thread runs straight-line blocking code and pushes what it finds into the queue.
 * pg/sqlstate.h decides what an error means (retry, give up); the crew does what
 * follows from it.
 *
 * A unit never has two polls in flight: the next one waits until the host
 * is done with all chunks of the last. Ranges of a snapshot follow each
 * other while the queue has room.
 *
 * SPDX-License-Identifier: MIT */
#ifndef CREW_H
#define CREW_H

#include "capture/message.h"
#include "capture/meter.h"

struct crew;
struct crew_source;

/* All borrowed. */
struct crew_job {
    struct queue *queue;
    const char *spool_dir; /* where spool files go */
    int stop_fd;           /* readable: everything is to end soon */
    bool is_once;          /* until each source has finished its snapshot and polled once */
    bool is_check;         /* look at each table, read nothing */
    bool has_debug;        /* the log wants to know of every poll */
};

/* Returns owned, or NULL: out of memory. */
struct crew *crew_new(const struct crew_job *job);

/* Adds a source, before crew_start. <config> is borrowed until crew_free. Returns what the crew
 * owns, or NULL: out of memory. */
struct crew_source *crew_add(struct crew *crew, const struct config *config, size_t number);

bool crew_start(struct crew *crew, struct err *e) WARN_UNUSED;

/* As reader_restore, reader_answer and reader_wake. crew_restore returns false if memory is out. */
bool crew_restore(struct crew_source *s, const struct position *kept) WARN_UNUSED;
bool crew_answer(struct crew_source *s, const struct tally_request *asked);
void crew_wake(struct crew *crew);
void crew_saved(struct crew_source *s, uint64_t lsn);

/* As reader_meter. */
void crew_meter(struct crew_source *s, struct meter_values *to);

/* Makes every thread end soon. */
void crew_stop(struct crew *crew);

/* Waits for the threads. */
void crew_free(struct crew *crew);

#endif
