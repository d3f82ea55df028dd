/* logical_bare.c -- the yardstick for capture = "logical": a client of the log that does nothing.
 * SPDX-License-Identifier: MIT
 *
 * logical_bare CONNINFO SLOT PUBLICATION END: reads the log up to that LSN, through pgoutput, and
 * prints how many rows it had.
 * logical_bare CONNINFO SLOT PUBLICATION: says "ready", and then the first column of each row that
 * is inserted, or updated under the same key, until it is killed. */
#include <inttypes.h>
#include <libpq-fe.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void fail(PGconn *conn)
{
    fprintf(stderr, "logical_bare: %s", PQerrorMessage(conn));
    exit(1);
}

static uint64_t number(const char *p, int bytes)
{
    uint64_t n = 0;

    for (int i = 0; i < bytes; i++)
        n = n << 8 | (unsigned char)p[i];
    return n;
}

/* A status: nothing is confirmed, so that the next one reads the same. */
static void answer(PGconn *conn)
{
    char status[34] = { 'r' };

    if (PQputCopyData(conn, status, sizeof status) != 1 || PQflush(conn) != 0)
        fail(conn);
}

/* A message of pgoutput. */
static long take(const char *p, bool tells)
{
    const char *column;

    if (*p != 'I' && *p != 'U')
        return *p == 'D';
    column = p + 1 + 4 + 1 + 2; /* kind, relation, 'N', number of columns */
    if (tells) {
        printf("%.*s\n", (int)number(column + 1, 4), column + 5);
        fflush(stdout);
    }
    return 1;
}

static long read_log(PGconn *conn, uint64_t end)
{
    long rows = 0;
    char *message;
    int len;

    for (;;) {
        while ((len = PQgetCopyData(conn, &message, 1)) == 0) {
            struct pollfd fd = { .fd = PQsocket(conn), .events = POLLIN };

            poll(&fd, 1, -1);
            if (!PQconsumeInput(conn))
                fail(conn);
        }
        if (len < 0)
            fail(conn);
        if (message[0] == 'w')
            rows += take(message + 25, end == 0);
        else if (message[17] != 0)
            answer(conn);
        /* where the log ends that was looked at: of a commit, and of a keepalive */
        if (end != 0 && (message[0] != 'w' || message[25] == 'C') &&
            number(message + (message[0] == 'w' ? 25 + 10 : 1), 8) >= end)
            return rows;
        PQfreemem(message);
    }
}

int main(int argc, char **argv)
{
    char sql[512];
    uint64_t end = 0;
    unsigned high, low;
    PGconn *conn;
    PGresult *result;

    if (argc < 4)
        return 2;
    if (argc > 4 && sscanf(argv[4], "%X/%X", &high, &low) == 2)
        end = (uint64_t)high << 32 | low;
    snprintf(sql, sizeof sql, "%s replication=database", argv[1]);
    conn = PQconnectdb(sql);
    if (PQstatus(conn) != CONNECTION_OK)
        fail(conn);
    snprintf(sql, sizeof sql, "START_REPLICATION SLOT \"%s\" LOGICAL 0/0 (proto_version '1', "
             "publication_names '\"%s\"')", argv[2], argv[3]);
    result = PQexec(conn, sql);
    if (PQresultStatus(result) != PGRES_COPY_BOTH)
        fail(conn);
    if (end == 0) {
        puts("ready");
        fflush(stdout);
    }
    printf("%ld\n", read_log(conn, end));
    return 0;
}
