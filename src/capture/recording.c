/* recording.c -- the file of --record: all that reaches a script, so that it can be fed again.
 * SPDX-License-Identifier: MIT */
#include "capture/recording.h"

#include "base/array.h"
#include "base/clock.h"
#include "base/path.h"
#include "pg/lsn.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define MUCH 65536 /* bytes that wait before they are written */
#define LONGEST ((size_t)4 << 30)

const char *const recording_kinds[RECORDING_KINDS] = {
    [TYPES_TEXT] = "text", [TYPES_BOOL] = "bool", [TYPES_INT] = "int", [TYPES_FLOAT] = "float",
    [TYPES_NUMERIC] = "numeric", [TYPES_BYTEA] = "bytea", [TYPES_TIMESTAMP] = "timestamp",
    [TYPES_JSON] = "json",
};

static const char begin[] = "{\"recording\":1,";

struct recording {
    int fd;
    char *path;
    struct buf waits;         /* lines that are not written yet */
    struct rowtype **classes; /* counted references; the number of a class is its place, from 1 */
    size_t n_classes, cap_classes;
    bool has_ended, is_told;
    struct err why;           /* if it has ended */
};

static void end(struct recording *r, const char *why)
{
    r->has_ended = true;
    err_set(&r->why, ERR_OUTPUT, "the recording %s ends here: %s", r->path, why);
}

/* Writes what waits. */
static void flush(struct recording *r)
{
    size_t done = 0;

    if (!r->has_ended && !buf_ok(&r->waits))
        end(r, "out of memory");
    while (!r->has_ended && done < r->waits.len) {
        ssize_t n = write(r->fd, r->waits.data + done, r->waits.len - done);

        if (n < 0 && errno != EINTR)
            end(r, strerror(errno));
        done += n > 0 ? (size_t)n : 0;
    }
    buf_clear(&r->waits);
}

/* ---- lines ---- */

/* Appends ,"name": */
static void put_name(struct buf *b, const char *name)
{
    buf_puts(b, b->data[b->len - 1] == '{' ? "\"" : ",\"");
    buf_puts(b, name);
    buf_puts(b, "\":");
}

/* Appends a field with these bytes; NULL: none. What is no UTF-8 becomes hex digits, in a field of
 * another name. */
static void put_bytes(struct buf *b, const char *name, const char *p, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    size_t before = b->len;

    if (p == NULL || !buf_ok(b))
        return;
    put_name(b, name);
    if (types_put_string(b, p, len) || !buf_ok(b))
        return;
    b->len = before;
    buf_printf(b, ",\"%s_hex\":\"", name);
    for (size_t i = 0; i < len; i++) {
        buf_putc(b, digits[(unsigned char)p[i] >> 4]);
        buf_putc(b, digits[(unsigned char)p[i] & 15]);
    }
    buf_putc(b, '"');
}

static void put_text(struct buf *b, const char *name, const char *text)
{
    put_bytes(b, name, text, text != NULL ? strlen(text) : 0);
}

static void put_number(struct buf *b, const char *name, uint64_t n)
{
    if (!buf_ok(b))
        return;
    put_name(b, name);
    buf_put_u64(b, n);
}

/* Appends a field that is true, unless it is false. */
static void put_true(struct buf *b, const char *name, bool is_true)
{
    if (is_true)
        buf_printf(b, ",\"%s\":true", name);
}

static void put_now(struct buf *b)
{
    char now[CLOCK_TEXT];

    clock_utc(now);
    put_text(b, "at", now);
}

/* ---- classes ---- */

static void put_column(struct buf *b, const struct rowtype_column *c)
{
    buf_putc(b, '{');
    put_text(b, "name", c->name);
    put_text(b, "type", c->type);
    put_text(b, "base", c->base_type);
    put_text(b, "kind", recording_kinds[c->kind]);
    put_text(b, "parts", c->parts);
    put_text(b, "expression", c->expression);
    put_number(b, "number", c->number);
    put_true(b, "to_json", c->wants_to_json);
    put_true(b, "json_cast", c->has_json_cast);
    put_true(b, "computed", c->is_computed);
    put_true(b, "nullable", c->is_nullable);
    put_true(b, "text", c->is_text);
    put_true(b, "total", c->is_total);
    buf_putc(b, '}');
}

void recording_put_class(struct buf *b, size_t number, const char *source,
                         const struct rowtype *s)
{
    buf_putc(b, '{');
    put_number(b, "class", number);
    put_text(b, "source", source);
    put_text(b, "database", s->database);
    put_text(b, "schema", s->schema);
    put_text(b, "table", s->table);
    put_text(b, "table_id", s->table_id);
    put_text(b, "started", s->started);
    put_text(b, "numbers", s->numbers);
    buf_puts(b, ",\"columns\":[");
    for (size_t i = 0; i < s->n_columns; i++) {
        buf_puts(b, i > 0 ? "," : "");
        put_column(b, &s->columns[i]);
    }
    buf_puts(b, "],\"key\":[");
    for (size_t k = 0; k < s->n_key; k++)
        buf_printf(b, "%s%zu", k > 0 ? "," : "", s->key[k] + 1);
    buf_puts(b, "]");
    put_number(b, "n_row", s->n_row);
    put_true(b, "hides_key", s->hides_key);
    put_true(b, "has_no_xid", s->has_no_xid);
    put_true(b, "has_place", s->has_place);
    buf_putc(b, '}');
}

/* The number of the class of these rows, which is told first if it is new. 0: out of memory. */
static size_t class_of(struct recording *r, const char *source, struct rowtype *s)
{
    for (size_t i = r->n_classes; i > 0; i--)
        if (r->classes[i - 1] == s)
            return i;
    if (!ARRAY_PUSH(r->classes, r->n_classes, r->cap_classes, rowtype_ref(s)))
        return 0;
    recording_put_class(&r->waits, r->n_classes, source, s);
    buf_putc(&r->waits, '\n');
    return r->n_classes;
}

/* ---- what is recorded ---- */

void recording_put_row(struct buf *b, size_t class, const struct chunk *chunk, size_t i)
{
    static const char *const ops[OP_COUNT] = { "read", "upsert", "insert", "update", "delete" };
    const struct chunk_side *side = chunk->sides != NULL ? &chunk->sides[i] : NULL;
    const struct chunk_row *row = &chunk->rows[i];
    char lsn[LSN_TEXT];

    buf_putc(b, '{');
    put_text(b, "op", ops[row->op]);
    put_number(b, "of", class);
    put_number(b, "xid", row->xid);
    if (chunk->seq != 0)
        put_number(b, "seq", chunk->seq + i);
    put_text(b, "ts", chunk->ts);
    if (row->log.lsn != 0) {
        put_text(b, "lsn", lsn_write(row->log.lsn, lsn));
        put_number(b, "us", (uint64_t)row->log.us);
        put_number(b, "nth", row->log.nth);
    }
    if (chunk->rowtype->has_place)
        buf_printf(b, ",\"place\":[%" PRIu32 ",%" PRIu32 ",%" PRIu32 "]", row->place.filenode,
                   row->place.block, row->place.line);
    put_true(b, "key_only", row->is_key_only);
    put_true(b, "unknown", row->has_unknown);
    put_bytes(b, "row", chunk->bytes + row->start, row->len);
    if (side != NULL && side->old_len > 0)
        put_bytes(b, "old", chunk->bytes + side->old_start, side->old_len);
    buf_putc(b, '}');
}

void recording_add_rows(struct recording *r, const char *source, const struct chunk *chunk,
                        size_t from, size_t to)
{
    size_t class;

    if (r->has_ended || from >= to)
        return;
    class = class_of(r, source, chunk->rowtype);
    if (class == 0) {
        end(r, "out of memory");
        return;
    }
    for (size_t i = from; i < to; i++) {
        recording_put_row(&r->waits, class, chunk, i);
        buf_putc(&r->waits, '\n');
        if (r->waits.len > MUCH || !buf_ok(&r->waits))
            flush(r);
        if (r->has_ended)
            return;
    }
}

void recording_add_event(struct recording *r, const char *source, const char *event,
                         const struct message_log *log)
{
    char lsn[LSN_TEXT], ts[CLOCK_TEXT];
    struct buf *b = &r->waits;

    if (r->has_ended)
        return;
    buf_putc(b, '{');
    put_text(b, "event", event);
    put_text(b, "source", source);
    put_now(b);
    if (log != NULL) {
        clock_write(log->us, ts);
        put_number(b, "xid", log->xid);
        put_text(b, "lsn", lsn_write(log->lsn, lsn));
        put_text(b, "commit_ts", ts);
        put_number(b, "count", log->count);
        put_text(b, "prefix", log->prefix);
        put_bytes(b, "content", log->content, log->len);
    }
    buf_puts(b, "}\n");
    flush(r);
}

bool recording_take_failure(struct recording *r, struct err *e)
{
    if (r == NULL || !r->has_ended || r->is_told)
        return false;
    r->is_told = true;
    *e = r->why;
    return true;
}

/* ---- the file ---- */

/* Finds the end of the last whole line, before <size>. Returns it, or -1 with errno set. */
static off_t end_of_lines(int fd, off_t size)
{
    char block[4096];

    while (size > 0) {
        off_t from = size > (off_t)sizeof block ? size - (off_t)sizeof block : 0;
        ssize_t n = pread(fd, block, (size_t)(size - from), from);

        if (n <= 0)
            return -1;
        for (; n > 0; n--)
            if (block[n - 1] == '\n')
                return from + n;
        size = from;
    }
    return 0;
}

/* True if a file that has something begins as a recording; it is cut to its whole lines. */
static bool go_on(int fd, const char *path, struct err *e)
{
    char head[sizeof begin - 1];
    struct stat st;
    off_t last;

    if (fstat(fd, &st) != 0)
        return err_set(e, ERR_USAGE, "--record %s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return err_set(e, ERR_USAGE, "--record %s: it is no file", path);
    if (flock(fd, LOCK_EX | LOCK_NB) != 0)
        return err_set(e, ERR_USAGE, "--record %s: another program records to it; name another "
                       "file", path);
    if (st.st_size == 0)
        return true;
    if (pread(fd, head, sizeof head, 0) != (ssize_t)sizeof head ||
        memcmp(head, begin, sizeof head) != 0)
        return err_set(e, ERR_USAGE, "--record %s: it is there and is no recording; name another "
                       "file", path);
    last = end_of_lines(fd, st.st_size);
    if (last < 0 || (last < st.st_size && ftruncate(fd, last) != 0))
        return err_set(e, ERR_USAGE, "--record %s: %s", path, strerror(errno));
    return true;
}

struct recording *recording_open(const char *path, const char *version, const char *script,
                                 struct err *e)
{
    struct path_why why;
    int fd = path_open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK, 0600, &why);
    struct recording *r = NULL;

    if (fd < 0) {
        err_set(e, ERR_USAGE, "--record %s: %s", path, why.text);
        return NULL;
    }
    if (!go_on(fd, path, e))
        goto failed;
    r = calloc(1, sizeof *r);
    if (r == NULL || (r->path = strdup(path)) == NULL) {
        err_memory(e);
        goto failed;
    }
    r->fd = fd;
    buf_init(&r->waits, LONGEST);
    buf_add(&r->waits, begin, sizeof begin - 2); /* the comma comes with the next field */
    put_text(&r->waits, "version", version);
    put_text(&r->waits, "script", script);
    put_now(&r->waits);
    buf_puts(&r->waits, "}\n");
    flush(r);
    if (!r->has_ended)
        return r;
    err_set(e, ERR_USAGE, "--record %s: it cannot be written", path);
    recording_close(r);
    return NULL;
failed:
    free(r);
    close(fd);
    return NULL;
}

void recording_close(struct recording *r)
{
    if (r == NULL)
        return;
    flush(r);
    close(r->fd);
    for (size_t i = 0; i < r->n_classes; i++)
        rowtype_unref(r->classes[i]);
    free(r->classes);
    free(r->path);
    buf_fini(&r->waits);
    free(r);
}
