/* thread_conn.h -- the connection of a thread that reads: opened on demand.
 *
 * SPDX-License-Identifier: MIT */
#ifndef THREAD_CONN_H
#define THREAD_CONN_H

#include "capture/meter.h"
#include "pg/conn.h"

/* Zeroed at birth. */
struct thread_conn {
    struct conn *conn; /* NULL: none */
    struct connect_orphan left; /* what the connection before may have left on the server */
    bool is_again;     /* there was one before */
};

/* Makes sure that there is one. One that comes after another is counted by <meter>. */
bool thread_conn_open(struct thread_conn *tc, const char *conninfo, int stop_fd,
                      struct meter *meter, struct err *e) WARN_UNUSED;

void thread_conn_close(struct thread_conn *tc);

#endif
