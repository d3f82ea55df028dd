/* connect.h -- how a connection to a server is begun.
 *
 * What a connection string may say, what it leaves to us, and how long a dead
 * peer may go unnoticed: that is libpq's own keepalives_idle,
 * keepalives_interval and keepalives_count, 30, 10 and 3 where nobody says
 * otherwise, which hold for questions to the server as well (see liveness.h).
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
    int64_t idle_ms, interval_ms;   /* how long silence is no news; between questions */
    unsigned count;                 /* questions; 0: nothing is asked, keepalives=0 */
};

/* Where to, instead of what the connection string says: libpq's host, hostaddr and port; NULL: as
 * it says. Owned, if not said otherwise. */
struct connect_address {
    char *host, *hostaddr, *port;
};
void connect_address_fini(struct connect_address *to);

/* All that <conn> was to try but the host that it is at. False if there is no other. */
bool connect_others(struct pg_conn *conn, struct connect_address *to);

/* The one that <conn> is at; borrows from it. */
struct connect_address connect_same(const struct pg_conn *conn);

/* A backend that its connection may have left behind at the server, with its locks: pid 0 if there
 * is none. <began>: when it did, as seconds. */
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

/* What <msg>, of libpq or of the server, says: the sqlstate and the text. Returns false. */
bool connect_fail(enum err_code code, const char *msg, struct err *e);

/* Sets <e> to what <res> says: a refusal of the server, or that the connection broke. Returns
 * false. */
bool connect_fail_result(const struct pg_conn *conn, const struct pg_result *res, struct err *e);

/* What the connection string, a service file and the environment say. */
void connect_read_times(struct pg_conn *conn, struct connect_times *t);

/* The kernel's own keepalives, as far as nobody asked libpq for others. */
void connect_keep_alive(struct pg_conn *conn);

#endif
