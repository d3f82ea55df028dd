/* message.h -- what travels from a reader to the host.
 *
 * A chunk of rows, or news of the source: a notice, a change of its columns, its end.
 *
 * Ownership: made by the reader, passed on whole, freed by the host.
 *
 * SPDX-License-Identifier: MIT */
#ifndef MESSAGE_H
#define MESSAGE_H

#include "base/log.h"
#include "base/queue.h"
#include "capture/chunk.h"
#include "capture/tally.h"

enum message_kind {
    MESSAGE_ROWS,     /* chunk */
    MESSAGE_TALLY,    /* tally: what keys the server has, counted; the reader waits for the host's
                       * answer, see reader_answer */
    MESSAGE_KEYS,     /* chunk: keys of the rows in the buckets that the host asked for */
    MESSAGE_RESOLVED, /* text: the table's full name; the reader waits for reader_restore */
    MESSAGE_NOTICE,   /* notice: something to log */
    MESSAGE_SCHEMA,   /* schema: the columns changed */
    MESSAGE_TRUNCATE, /* log: the table was truncated, by the log; of rows that are kept the host
                       * makes deletes */
    MESSAGE_COMMIT,   /* log: all changes of a transaction that has some came, by the log */
    MESSAGE_EMITTED,  /* log: pg_logical_emit_message was called in a transaction */
    MESSAGE_READING,  /* the table is read from its start, and all its rows are to come */
    MESSAGE_READY,    /* no snapshot is due any more */
    MESSAGE_REREAD,   /* notice: what comes of a wish to read rows again; an error: nothing */
    MESSAGE_DONE,     /* text: what --check found, or NULL; nothing more will come */
    MESSAGE_FAULT,    /* fault: the reader gave up; nothing more will come */
};

struct message_tally {
    struct rowtype *rowtype; /* counted reference */
    struct tally *counts;    /* owned */
};

struct message_notice {
    struct err err;       /* its text, and the error if something failed */
    enum log_level level;
    int64_t retry_ms;     /* when what failed is tried again; -1: nothing failed */
};

struct message_schema {
    char *old_signature, *new_signature; /* owned */
};

struct message_log {
    uint64_t xid, lsn;     /* of the transaction; of its commit record, or of what was emitted, or
                            * that truncated */
    int64_t us;            /* when it committed, in microseconds since 1970 */
    uint64_t count;        /* COMMIT: of the source's changes; TRUNCATE: it is that of its LSN */
    char *prefix, *content; /* EMITTED: owned; the content has <len> bytes */
    size_t len;
};

struct message {
    struct queue_item item;
    enum message_kind kind;
    size_t source;   /* its number */
    bool is_fed;     /* it came from the Lua half, by no queue */
    bool is_taken_in; /* TALLY, KEYS, TRUNCATE: the host has taken in what it says, but could not
                      * finish what follows from it */
    struct rowtype *rowtype; /* DONE: what rows would be, TRUNCATE: what they are; counted
                              * reference, or NULL */
    union {          /* by kind */
        struct chunk chunk;
        struct message_tally tally;
        struct message_notice notice;
        struct message_schema schema;
        struct message_log log;
        struct err fault;
        char *text;  /* owned */
    };
};

/* Returns owned memory with an empty content, or NULL (out of memory). */
struct message *message_new(enum message_kind kind, size_t source);

/* NULL is legal. */
void message_free(struct message *m);

/* The message that <item> is part of. */
struct message *message_of(struct queue_item *item);

/* True if many like this one may wait together: a chunk with few rows, or a commit. */
bool message_is_small(const struct message *m);

/* True if <m> holds a chunk: of rows or of keys. */
bool message_has_rows(const struct message *m);

/* Sets the lane and the bytes that the queue counts. Call it when the message is complete, before
 * it is pushed; again if it has changed since. */
void message_seal(struct message *m, struct queue_lane *lane);

#endif
