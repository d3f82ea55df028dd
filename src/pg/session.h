/* session.h -- the settings of sessions: what shapes values as text, and how long things may take.
 *
 * The one list of them, for all code that talks to a server. (The functions of triggers, which are
 * installed at the server, have settings of their own, see lua/pgcdc/postgres/trigger.lua.)
 *
 * SPDX-License-Identifier: MIT */
#ifndef SESSION_H
#define SESSION_H

#include "base/buf.h"

enum session_use {
    SESSION_UNLIMITED = 1, /* a poll: no time limits, and an empty search_path */
    SESSION_CAPTURE = 2,   /* a poll, besides: how values are written and tables are read */
    SESSION_CLIENT = 4,    /* the client of scripts: for the session, not for one transaction */
    SESSION_TARGET = 8,    /* a transaction of a sink */
    SESSION_VERIFY = 16,   /* a transaction that compares */
    SESSION_STREAM = 32,   /* a connection of replication: for the session. Values as in a poll */
};

/* Appends "SET LOCAL name = value;" for each setting of one use, or "SET name = value;" for
 * SESSION_CLIENT and SESSION_STREAM. <version>: the server's, as conn_version returns it. */
void session_put(struct buf *b, enum session_use use, int version);

#endif
