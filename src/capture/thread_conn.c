/* thread_conn.c -- the connection of a thread that reads.
 * SPDX-License-Identifier: MIT */
#include "capture/thread_conn.h"

bool thread_conn_open(struct thread_conn *tc, const char *conninfo, int stop_fd,
                      struct meter *meter, struct err *e)
{
    if (tc->conn != NULL)
        return true;
    tc->conn = conn_open(conninfo, stop_fd, CONN_STOP_AT_ONCE, &tc->left, e);
    if (tc->conn == NULL)
        return false;
    if (tc->is_again)
        meter_add_reconnect(meter);
    tc->is_again = true;
    return true;
}

void thread_conn_close(struct thread_conn *tc)
{
    conn_close(tc->conn, &tc->left);
    tc->conn = NULL;
}
