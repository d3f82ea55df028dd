/* stream_connect.h -- how a stream of the log begins: at which server, from where on.
 *
 * SPDX-License-Identifier: MIT */
#ifndef STREAM_CONNECT_H
#define STREAM_CONNECT_H

#include "capture/source.h"
#include "pg/replication.h"

/* False if the server that answers is perhaps not the one that the source's position speaks of,
 * with ERR_SQL and 55000: its step is to look first what that means. Another server would take an
 * LSN that it does not have for one that is to come. */
bool stream_connect_check(struct source *s, const struct identity *now,
                          struct err *e) WARN_UNUSED;

/* Connects, and has the server send what <request> says of the slot of <config>, which says how
 * that is reached. Returns owned, or NULL with <e>. */
struct replication *stream_connect_start(const struct config *config,
                                         const struct replication_request *request,
                                         struct conn *conn, struct connect_orphan *left,
                                         struct err *e);

#endif
