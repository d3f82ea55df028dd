/* connect.h -- how a connection to a server is begun.
 *
 * What a connection string may contain, what is added to it, and how long a dead
 * server may stay unnoticed: libpq's keepalives_idle, keepalives_interval and
 * keepalives_count, by default 30, 10 and 3. They also time the questions of liveness.h.
 *
 * Never blocks, except while libpq looks up the name of a host.
 *
 * SPDX-License-Identifier: MIT */
#ifndef CONNECT_H
#define CONNECT_H

#include "base/buf.h"

#include <stdint.h>

struct pg_conn;   /* libpq's PGconn */
struct pg_result; /* and PGresult */

struct connect_times {
    int64_t connect_ms;  /* how long one host may take */
    int64_t idle_ms;     /* the silence before the first question */
    int64_t interval_ms; /* from one question to the next */
    unsigned count;      /* of bad answers; 0 (keepalives=0): nothing is asked */
};

/* libpq's host, hostaddr and port, which override those of the connection string; NULL does not.
 * Owned, except those of connect_same. */
struct connect_address {
    char *host, *hostaddr, *port;
};

/* Frees the fields and sets them to NULL. */
void connect_address_fini(struct connect_address *to);

/* Sets <to> to the hosts of <conn> without the one that it tries now, and frees what <to> held.
 * False, and <to> stays, if there is no other host. */
bool connect_others(struct pg_conn *conn, struct connect_address *to);

/* The host that <conn> is connected to. Its fields are borrowed, valid as long as <conn>. */
struct connect_address connect_same(const struct pg_conn *conn);

/* A backend that may still run at the server, and hold its locks, although its connection is
 * closed. */
struct connect_orphan {
    long pid;       /* 0: there is none */
    char began[32]; /* when the backend began, in seconds since 1970 */
};

/* What overrides a connection string. NULL does not. All borrowed. */
struct connect_changes {
    const struct connect_address *to;
    const char *name;        /* application_name, by default that of the string, or pgcdc-lua */
    const char *replication; /* "database": the connection also takes commands of replication */
};

/* Begins to connect; PQconnectPoll goes on. <conninfo>: see conn_open. Returns owned, also if it
 * has failed already (see PQstatus), or NULL with ERR_USAGE or ERR_MEMORY. */
struct pg_conn *connect_begin(const char *conninfo, const struct connect_changes *changes,
                              struct err *e);

/* True if <conninfo> can be read, else false with ERR_USAGE or ERR_MEMORY. No message shows it. */
bool connect_check(const char *conninfo, struct err *e) WARN_UNUSED;

/* True if <conninfo> is the name of a database, or "": neither a conninfo string nor a URI. */
bool connect_is_name(const char *conninfo);

/* Appends text that tells the databases apart that connection strings lead to, as far as they, the
 * environment and the user's name say it. It has no password. */
bool connect_put_place(struct buf *text, const char *conninfo, struct err *e) WARN_UNUSED;

/* Sets <e> to <code>, and to the sqlstate and the text of <msg>, which libpq or the server wrote.
 * Returns false. */
bool connect_fail(enum err_code code, const char *msg, struct err *e);

/* Takes out of <e>, why <conn> could not be made, what it says of the folders of sockets: a script
 * that may name any could find out which files there are. */
void connect_hide_files(struct pg_conn *conn, struct err *e);

/* Sets <e> to the error that <res> holds: ERR_SQL if the server refused, ERR_CONNECTION if the
 * connection is lost, ERR_ANSWER if libpq cannot read it, ERR_MEMORY. Returns false. */
bool connect_fail_result(const struct pg_conn *conn, const struct pg_result *res, struct err *e);

/* Sets <t> to what the connection string, a service file and the environment of <conn> say, and to
 * the defaults for the rest. */
void connect_read_times(struct pg_conn *conn, struct connect_times *t);

/* Sets the defaults as the kernel's keepalives, except those that libpq was asked to set. */
void connect_keep_alive(struct pg_conn *conn);

#endif
