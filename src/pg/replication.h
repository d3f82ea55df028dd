/* replication.h -- a connection that gets the server's log, decoded.
 *
 * First it is asked questions, makes or drops a slot; then, once replication_start was called, the
 * server sends messages of the plug-in pgoutput (pgoutput.h), and nothing else may be asked. The
 * server keeps its log for the slot until it is told with replication_confirm that it is not needed
 * any more, and nothing but that lets it go on.
 *
 * Blocks as conn.h says; it stops at once when the program is to stop. After an error the
 * connection can only be closed.
 *
 * SPDX-License-Identifier: MIT */
#ifndef REPLICATION_H
#define REPLICATION_H

#include "pg/conn.h"

struct replication;

/* A connection like <conn>, by <conninfo> unless that is NULL: to the same database of the same
 * server, or ERR_REFUSED. The values that it will send have the text that they have in a poll.
 * <left>, other errors: as of conn_open. */
struct replication *replication_open(struct conn *conn, const char *conninfo,
                                     struct connect_orphan *left, struct err *e);

/* Closes and frees; NULL is legal. Does not wait for the server. <left>: as of conn_close; the
 * backend that sent may hold its slot for a while. */
void replication_close(struct replication *r, struct connect_orphan *left);

/* The connection, for long waits (conn_watch) and its version. */
struct conn *replication_conn(struct replication *r);

struct replication_slot {
    uint64_t lsn;        /* the consistent point: transactions that commit after it are sent */
    char snapshot[64];   /* name of the snapshot that has just what committed before it. It can be
                          * taken on another connection until this one runs another statement */
};

enum replication_slot_kind {
    REPLICATION_LASTING,
    REPLICATION_FAILOVER,  /* it is to be on standbys too; from 17 on */
    REPLICATION_TEMPORARY, /* it lives as long as the connection */
};

/* Makes a slot. Waits for all transactions that are under way. */
bool replication_create_slot(struct replication *r, const char *name,
                             enum replication_slot_kind kind, struct replication_slot *slot,
                             struct err *e) WARN_UNUSED;

/* Makes a temporary slot that is where <slot> is, which somebody else may read. */
bool replication_copy_slot(struct replication *r, const char *slot, const char *name,
                           struct err *e) WARN_UNUSED;

/* A lasting slot, which nobody reads, is to be on standbys too. From 17 on. */
bool replication_set_failover(struct replication *r, const char *name, struct err *e) WARN_UNUSED;

/* Drops a slot. ERR_SQL with 55006 if somebody uses it, 42704 if there is none. */
bool replication_drop_slot(struct replication *r, const char *name, struct err *e) WARN_UNUSED;

/* Where the server's timeline <now> left <then>, one that it stems from: what is before *lsn is in
 * both. *lsn 0: it does not stem from it. */
bool replication_ask_switch(struct replication *r, uint32_t now, uint32_t then, uint64_t *lsn,
                            struct err *e) WARN_UNUSED;

/* All borrowed. */
struct replication_request {
    const char *slot;
    uint64_t lsn;
    const char *publications; /* their names, quoted, with commas between */
    bool with_messages;       /* also those of pg_logical_emit_message */
};

/* From now on the server sends what commits at or after the LSN, or after what was confirmed if
 * that is later. */
bool replication_start(struct replication *r, const struct replication_request *request,
                       struct err *e) WARN_UNUSED;

enum replication_kind {
    REPLICATION_DATA,      /* a message of pgoutput */
    REPLICATION_KEEPALIVE, /* all before <end> was sent */
    REPLICATION_NOTHING,   /* nothing came in time */
};

struct replication_message {
    enum replication_kind kind;
    uint64_t lsn;     /* DATA: of the record, 0 of some kinds */
    uint64_t end;     /* the server's log, or what of it was looked at, ends here */
    bool wants_reply; /* the server wants a status */
    const char *p;    /* DATA: <len> bytes, borrowed until the next call */
    size_t len;
};

/* Waits for the next message until <deadline_ms>, by clock_mono_ms. Silence of a server that should
 * have answered ends with ERR_CONNECTION; ERR_DECODING: it cannot go on with its log. */
bool replication_next(struct replication *r, int64_t deadline_ms, struct replication_message *m,
                      struct err *e) WARN_UNUSED;

/* Tells the server that what is before <lsn> is not needed any more, and that we are there. To be
 * called every few seconds also if nothing has changed. <asks>: a keepalive is to come. */
bool replication_confirm(struct replication *r, uint64_t lsn, bool asks,
                         struct err *e) WARN_UNUSED;

/* Confirms nothing more: a keepalive is to come. */
bool replication_ask(struct replication *r, struct err *e) WARN_UNUSED;

#endif
