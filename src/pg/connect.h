/* connect.h -- how a connection to a server is begun.
 *
 * What a connection string may contain, what is added to it, and how long a dead
 * server may stay unnoticed: libpq's keepalives_idle, keepalives_interval and
 * keepalives_count, by default 30, 10 and 3, which also hold for the questions that
 * liveness.h asks.
 *
 * Never blocks, but for the name of a host that libpq looks up.
 *
 * SPDX-License-Identifier: MIT */
#ifndef CONNECT_H
#define CONNECT_H

#include "base/err.h"

#include <stdint.h>

struct pg_conn;   /* libpq's PGconn */
struct pg_result; /* and PGresult */

struct connect_times {
    int64_t connect_ms;             /* for each host */
    int64_t idle_ms, interval_ms;   /* of silence before the first question; between questions */
    unsigned count;                 /* of questions; 0: nothing is asked, keepalives=0 */
};

/* Where to connect, instead of what the connection string says: libpq's host, hostaddr and port;
 * NULL: as it says. Owned, if not said otherwise. */
struct connect_address {
    char *host, *hostaddr, *port;
};
void connect_address_fini(struct connect_address *to);

/* Sets <to> to the hosts of <conn> without the one that it tries now. False if there is none. */
bool connect_others(struct pg_conn *conn, struct connect_address *to);

/* The host that <conn> is connected to; borrows from it. */
struct connect_address connect_same(const struct pg_conn *conn);

/* A backend that may still run at the server, with its locks, though its connection is closed: pid
 * 0 if there is none. <began>: when it began, in seconds. */
struct connect_orphan {
    long pid;
    char began[32];
};

/* Begins to connect. <conninfo>: see conn_open. <name>: an application_name, or NULL for the usual
 * one. Returns owned, or NULL with ERR_USAGE or ERR_MEMORY. */
struct pg_conn *connect_begin(const char *conninfo, const struct connect_address *to,
                              const char *name, struct err *e);

/* Whether <conninfo> can be read; it is never shown. */
bool connect_check(const char *conninfo, struct err *e) WARN_UNUSED;

/* Sets <e> to what <msg>, of libpq or of the server, says: the sqlstate and the text. Returns
 * false. */
bool connect_fail(enum err_code code, const char *msg, struct err *e);

/* Sets <e> to what <res> says: a refusal of the server, or that the connection broke. Returns
 * false. */
bool connect_fail_result(const struct pg_conn *conn, const struct pg_result *res, struct err *e);

/* What the connection string, a service file and the environment say. */
void connect_read_times(struct pg_conn *conn, struct connect_times *t);

/* Sets the kernel's keepalives, except those that libpq was asked to set. */
void connect_keep_alive(struct pg_conn *conn);

#endif
