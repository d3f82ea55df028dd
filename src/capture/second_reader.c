/* second_reader.c -- the other half of a range, read by another connection at the same time.
 *
 * A thread for each half, so that nothing is shared while it runs: it has the struct until it was
 * joined. Its locks never wait: whoever waits for a lock that excludes the reader's would be waited
 * for by us, and wait for the reader, and no server can see that.
 *
 * SPDX-License-Identifier: MIT */
#include "capture/second_reader.h"

#include "base/clock.h"
#include "capture/sql.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define MOST_BYTES ((size_t)16 << 20) /* of a half; one that is longer the reader reads */
#define AGAIN_MS 10000                /* after a failure it is not tried for so long */

struct second_reader {
    const struct config *config; /* borrowed */
    int own_stop_fd;             /* readable: the thread is to end */
    int stop_fd;                 /* the same, or the whole program is to */
    struct conn *conn;
    struct connect_orphan left;
    pthread_t thread;
    bool is_running;
    int64_t failed_ms;           /* when it failed last, by clock_mono_ms; 0: it has not */
    struct buf begin, copy;      /* what is run */
    struct buf lines;            /* what came, a newline after each */
    size_t at;                   /* of the next one */
    bool is_read;
};

static bool stops_by(struct second_reader *r, int fd)
{
    struct epoll_event event = { .events = EPOLLIN };

    return fd >= 0 && epoll_ctl(r->stop_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

struct second_reader *second_reader_new(const struct config *config, int stop_fd)
{
    struct second_reader *r = calloc(1, sizeof *r);

    if (r == NULL)
        return NULL;
    r->config = config;
    r->stop_fd = epoll_create1(EPOLL_CLOEXEC);
    r->own_stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    buf_init(&r->begin, BUF_SQL_MAX);
    buf_init(&r->copy, BUF_SQL_MAX);
    buf_init(&r->lines, MOST_BYTES);
    if (r->stop_fd >= 0 && stops_by(r, r->own_stop_fd) && (stop_fd < 0 || stops_by(r, stop_fd)))
        return r;
    second_reader_free(r);
    return NULL;
}

static void join(struct second_reader *r)
{
    if (r->is_running)
        pthread_join(r->thread, NULL);
    r->is_running = false;
}

void second_reader_free(struct second_reader *r)
{
    const uint64_t one = 1;

    if (r == NULL)
        return;
    if (r->is_running && write(r->own_stop_fd, &one, sizeof one) < 0) {
        /* it is readable already */
    }
    join(r);
    conn_close(r->conn, &r->left);
    if (r->stop_fd >= 0)
        close(r->stop_fd);
    if (r->own_stop_fd >= 0)
        close(r->own_stop_fd);
    buf_fini(&r->begin);
    buf_fini(&r->copy);
    buf_fini(&r->lines);
    free(r);
}

/* ---- the thread ---- */

static bool read_lines(struct second_reader *r, struct err *e)
{
    const char *line;
    enum conn_copy got;
    size_t len;

    if (!conn_copy(r->conn, r->copy.data, e))
        return false;
    while ((got = conn_copy_next(r->conn, &line, &len, e)) == CONN_COPY_LINE) {
        buf_add(&r->lines, line, len);
        buf_putc(&r->lines, '\n');
        if (!buf_ok(&r->lines))
            return false;
    }
    return got == CONN_COPY_END;
}

static void *run(void *arg)
{
    struct second_reader *r = arg;
    struct err e;

    pthread_setname_np(pthread_self(), "second reader");
    if (r->conn == NULL)
        r->conn = conn_open(r->config->conninfo, r->stop_fd, CONN_STOP_AT_ONCE, &r->left, &e);
    r->is_read = r->conn != NULL && conn_run(r->conn, r->begin.data, NULL, NULL, 0, &e) &&
                 read_lines(r, &e) && conn_run(r->conn, "COMMIT", NULL, NULL, 0, &e);
    if (!r->is_read) {
        conn_close(r->conn, &r->left);
        r->conn = NULL;
    }
    return NULL;
}

/* ---- the reader ---- */

/* The name of the snapshot of the open transaction; owned by the caller. NULL: there is none. */
static bool export_snapshot(struct conn *conn, struct result **name, struct err *e)
{
    const struct result_shape shape = { "the name of the snapshot", "t", 1, 1 };

    return conn_run(conn, "SELECT pg_catalog.pg_export_snapshot()", &shape, name, 1, e);
}

static void put_begin(struct second_reader *r, const struct relation *t, const char *snapshot,
                      int version)
{
    struct relation unlocked = *t;

    unlocked.is_lockable = false;
    buf_clear(&r->begin);
    sql_begin(&r->begin, &unlocked, r->config->rls, version);
    buf_printf(&r->begin, "SET TRANSACTION SNAPSHOT '%s';", snapshot);
    sql_lock(&r->begin, t);
    if (t->is_lockable && buf_ok(&r->begin)) {
        r->begin.len--; /* the semicolon */
        buf_puts(&r->begin, " NOWAIT;");
    }
}

bool second_reader_begin(struct second_reader *r, const struct relation *t, const char *copy,
                         struct conn *conn, bool *is_begun, struct err *e)
{
    struct result *name = NULL;

    *is_begun = false;
    if (r->failed_ms != 0 && clock_mono_ms() - r->failed_ms < AGAIN_MS)
        return true;
    if (!export_snapshot(conn, &name, e))
        return false;
    put_begin(r, t, result_text(name, 0, 0), conn_version(conn));
    result_free(name);
    buf_clear(&r->copy);
    buf_puts(&r->copy, copy);
    buf_clear(&r->lines);
    r->at = 0;
    r->is_read = false;
    if (!buf_ok(&r->begin) || !buf_ok(&r->copy))
        return err_memory(e);
    *is_begun = r->is_running = pthread_create(&r->thread, NULL, run, r) == 0;
    return true;
}

bool second_reader_end(struct second_reader *r)
{
    join(r);
    if (!r->is_read)
        r->failed_ms = clock_mono_ms();
    return r->is_read;
}

bool second_reader_next(struct second_reader *r, const char **line, size_t *len)
{
    const char *p, *end;

    if (r->at >= r->lines.len)
        return false;
    p = r->lines.data + r->at;
    end = memchr(p, '\n', r->lines.len - r->at);
    *line = p;
    *len = (size_t)(end - p);
    r->at += *len + 1;
    return true;
}
