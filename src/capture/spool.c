/* spool.c -- the file for what the queue cannot hold.
 * SPDX-License-Identifier: MIT */
#include "capture/spool.h"

#include "base/file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct spool {
    int fd;
    off_t written, read;
};

struct head {
    size_t n_rows, n_bytes;
};

struct spool *spool_open(const char *dir, struct err *e)
{
    struct spool *s = calloc(1, sizeof *s);

    if (s == NULL) {
        err_memory(e);
        return NULL;
    }
    s->fd = file_open_unnamed(dir);
    if (s->fd < 0) {
        err_set(e, ERR_STATE, "cannot make a temporary file in %s: %s", dir, strerror(errno));
        free(s);
        return NULL;
    }
    return s;
}

void spool_close(struct spool *s)
{
    if (s == NULL)
        return;
    close(s->fd);
    free(s);
}

uint64_t spool_bytes(const struct spool *s)
{
    return (uint64_t)(s->written - s->read);
}

bool spool_is_empty(const struct spool *s)
{
    return s->read == s->written;
}

/* Writes at *at and moves it on. */
static bool write_at(struct spool *s, off_t *at, const void *data, size_t n, struct err *e)
{
    const char *p = data;

    while (n > 0) {
        ssize_t w = pwrite(s->fd, p, n, *at);

        if (w < 0 && errno == EINTR)
            continue;
        if (w <= 0)
            return err_set(e, ERR_STATE,
                           "cannot write the temporary file beside the state file: %s",
                           strerror(w < 0 ? errno : ENOSPC));
        *at += w;
        p += w;
        n -= (size_t)w;
    }
    return true;
}

static bool read_at(struct spool *s, void *data, size_t n, struct err *e)
{
    char *p = data;

    while (n > 0) {
        ssize_t r = pread(s->fd, p, n, s->read);

        if (r < 0 && errno == EINTR)
            continue;
        if (r <= 0)
            return err_set(e, ERR_STATE, "cannot read the temporary file beside the state file: %s",
                           r < 0 ? strerror(errno) : "it is too short");
        s->read += r;
        p += r;
        n -= (size_t)r;
    }
    return true;
}

bool spool_write(struct spool *s, const struct chunk *c, struct err *e)
{
    struct head head = { c->n_rows, c->n_bytes };
    off_t at = s->written;

    if (!write_at(s, &at, &head, sizeof head, e) ||
        !write_at(s, &at, c->rows, c->n_rows * sizeof *c->rows, e) ||
        !write_at(s, &at, c->bytes, c->n_bytes, e))
        return false;
    s->written = at; /* only now it counts: half a chunk is none */
    return true;
}

bool spool_read(struct spool *s, struct chunk *c, bool *got, struct err *e)
{
    struct head head;

    *got = s->read < s->written;
    if (!*got)
        return true;
    if (!read_at(s, &head, sizeof head, e))
        return false;
    c->rows = malloc((head.n_rows + 1) * sizeof *c->rows);
    c->bytes = malloc(head.n_bytes + 1);
    if (c->rows == NULL || c->bytes == NULL)
        return err_memory(e);
    c->n_rows = c->cap_rows = head.n_rows;
    c->n_bytes = c->cap_bytes = head.n_bytes;
    if (!read_at(s, c->rows, c->n_rows * sizeof *c->rows, e) ||
        !read_at(s, c->bytes, c->n_bytes, e))
        return false;
    if (spool_is_empty(s))
        s->written = s->read = 0;
    return true;
}
