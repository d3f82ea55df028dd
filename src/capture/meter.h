/* meter.h -- what the readers of a source have done, in figures.
 *
 * The threads that work on a source write, once a step or a chunk, never once a row; any thread
 * reads a copy. Times are of clock_mono_ms.
 *
 * SPDX-License-Identifier: MIT */
#ifndef METER_H
#define METER_H

#include "base/err.h"
#include "base/histogram.h"

#include <pthread.h>

enum meter_result {
    METER_CHANGED, /* the poll found changes */
    METER_EMPTY,   /* it found none */
    METER_SKIPPED, /* nothing has committed since the last one, so nothing was read */
    METER_ERROR,   /* it failed */
    METER_RESULTS  /* how many there are */
};

/* What grows never goes back. */
struct meter_values {
    uint64_t polls[METER_RESULTS]; /* without ranges of the snapshot */
    struct histogram poll_seconds; /* of those that were not skipped */
    uint64_t rows_scanned;  /* lines of COPY, or rows of the log, that the server has sent */
    uint64_t retries;       /* how often something was tried again after a failure */
    uint64_t reconnects;    /* connections, without the first one of each thread */
    uint64_t spool_bytes;   /* what waits in the file beside the state file just now */
    uint64_t slot_bytes;    /* that the slot holds of the server's log, when it was asked last */
    bool has_slot;
    int64_t interval_ms;    /* from poll to poll, as it counts now, see load.h; 0: none was yet */
    int64_t due_ms;         /* when the next step is, or was, due; 0: that is not known */
    int64_t began_ms;       /* when the step in hand began; 0: none is under way */
    int64_t reached_ms;     /* when a step was last complete; 0: none was yet */
    int64_t failing_since_ms; /* the first of the failures in a row; 0: it works */
    struct err err;         /* the newest of them */
    int64_t waiting_since_ms; /* the server lets the step wait; 0: it does not */
    char wait[256];         /* why, in words for people */
};

struct meter {
    pthread_mutex_t mutex;
    struct meter_values v;
    uint64_t step_rows;      /* how many changes the step in hand has found */
};

void meter_init(struct meter *m);
void meter_fini(struct meter *m);

/* Copies what <m> has. */
void meter_read(struct meter *m, struct meter_values *to);

/* A step begins; has found changes; ends. */
void meter_begin_step(struct meter *m);
void meter_add_changes(struct meter *m, uint64_t n);
/* <is_range>: it was one of the snapshot; <is_skipped>: nothing was read. */
void meter_end_step(struct meter *m, bool is_range, bool is_skipped);
void meter_set_due(struct meter *m, int64_t due_ms, int64_t interval_ms);

/* A step, or whatever reads the log, has failed, for the first time in a row at <since_ms>, and is
 * tried again; or it works. */
void meter_fail(struct meter *m, const struct err *e, int64_t since_ms);
void meter_recover(struct meter *m);

/* The log was read without a failure. */
void meter_reach(struct meter *m);

void meter_add_scanned(struct meter *m, uint64_t n);
void meter_add_reconnect(struct meter *m);
void meter_set_spool(struct meter *m, uint64_t bytes);
void meter_set_slot(struct meter *m, uint64_t bytes);

/* The server lets the step wait for this reason; NULL: not any more. */
void meter_set_wait(struct meter *m, const char *why);

#endif
