/* reader.h -- the sources of a script, and the crews that read them.
 *
 * One crew of threads for each database (crew.h). A source never has two polls
 * in flight: the next one waits until the host is done with all chunks of the last.
 *
 * SPDX-License-Identifier: MIT */
#ifndef READER_H
#define READER_H

#include "capture/message.h"
#include "capture/meter.h"
#include "capture/position.h"

struct reader;

enum reader_mode {
    READER_RUN,   /* for ever */
    READER_ONCE,  /* until each source has finished its snapshot and polled once */
    READER_CHECK, /* look at each table, read nothing */
};

/* <queue> is borrowed; <spool_dir> (copied) is where spool files go; <has_debug>: the log wants to
 * know of every poll. Returns owned, or NULL. */
struct reader *reader_new(struct queue *queue, const char *spool_dir, enum reader_mode mode,
                          bool has_debug, struct err *e);

/* Declares the next source; they are numbered from 0. <config> is borrowed until reader_free.
 * ERR_MEMORY. */
bool reader_add(struct reader *r, const struct config *config, struct err *e) WARN_UNUSED;

/* Starts the threads. From then on the host's thread alone calls the functions below. */
bool reader_start(struct reader *r, struct err *e) WARN_UNUSED;

/* The answer to a MESSAGE_RESOLVED: the position that was kept (copied), or NULL. ERR_MEMORY. */
bool reader_restore(struct reader *r, size_t source, const struct position *kept,
                    struct err *e) WARN_UNUSED;

/* The answer to a MESSAGE_TALLY: the buckets whose keys the host wants to see (copied, see
 * key_census.h), NULL for none. False if the reader no longer waits for the answer. */
bool reader_answer(struct reader *r, size_t source, const struct tally_request *asked);

/* A position of <source> was saved, which has this LSN of the log; 0: none. */
void reader_saved(struct reader *r, size_t source, uint64_t lsn);

/* No step of <source>, and of those that are read together with it, is begun; or they are again.
 * Not before its MESSAGE_RESOLVED. What a step under way brings still comes. With --once nothing is
 * read, and MESSAGE_DONE comes at once. */
void reader_pause(struct reader *r, size_t source, bool is_paused);

/* A poll is due now, whatever the interval. */
void reader_poll(struct reader *r, size_t source);

/* The rows that fulfil <where> (SQL, copied; "": all) are to be read again, as reads, while polls
 * go on. MESSAGE_REREAD says what comes of it. Not of sources that are read together. False with
 * ERR_MEMORY. */
bool reader_reread(struct reader *r, size_t source, const char *where, struct err *e) WARN_UNUSED;

/* The host is done with messages of <source>: call it after a queue_done that was news. */
void reader_wake(struct reader *r, size_t source);

/* What was done for <source>, in figures. Any thread may call it, until reader_free. */
void reader_meter(struct reader *r, size_t source, struct meter_values *to);

/* Makes every thread end soon, whatever it waits for. The queue must be closed first. */
void reader_stop(struct reader *r);

/* Waits for the threads, and frees <r>. NULL is legal. */
void reader_free(struct reader *r);

#endif
