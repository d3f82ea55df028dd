/* http_answer.c -- takes answers of HTTP apart. See http_answer.h.
 * SPDX-License-Identifier: MIT */
#include "sinks/http_answer.h"

#include <string.h>
#include <strings.h>

#define LONGEST_HEAD ((size_t)256 << 10) /* bytes of all lines */
#define MOST ((size_t)1 << 20)

void http_answer_init(struct http_answer *a)
{
    *a = (struct http_answer){ .state = HTTP_ANSWER_STATUS };
    buf_init(&a->body, HTTP_ANSWER_BODY + 1);
    buf_init(&a->retry_after, MOST);
    buf_init(&a->location, MOST);
    buf_init(&a->line, MOST);
}

void http_answer_clear(struct http_answer *a)
{
    buf_clear(&a->body);
    buf_clear(&a->retry_after);
    buf_clear(&a->location);
    buf_clear(&a->line);
    a->state = HTTP_ANSWER_STATUS;
    a->status = 0;
    a->head_len = 0;
    a->left = 0;
    a->is_last = a->has_length = a->is_chunked = false;
}

void http_answer_fini(struct http_answer *a)
{
    buf_fini(&a->body);
    buf_fini(&a->retry_after);
    buf_fini(&a->location);
    buf_fini(&a->line);
}

/* ---- lines ---- */

/* A number of that base (10 or 16) at the start of the text; what follows it in *end. False if
 * there is none, or one beyond 2^60. */
static bool read_number(const char *text, const char *stop, unsigned base, uint64_t *n,
                        const char **end)
{
    const char *at = text;

    for (*n = 0; at < stop; at++) {
        unsigned digit = *at >= '0' && *at <= '9' ? (unsigned)(*at - '0')
                       : *at >= 'a' && *at <= 'f' ? (unsigned)(*at - 'a' + 10)
                       : *at >= 'A' && *at <= 'F' ? (unsigned)(*at - 'A' + 10) : 16;

        if (digit >= base)
            break;
        if (*n >> 56 != 0)
            return false;
        *n = *n * base + digit;
    }
    *end = at;
    return at > text;
}

/* "HTTP/1.1 204 No Content" */
static bool take_status(struct http_answer *a, const char *line, size_t len)
{
    const char *stop = line + len, *end;
    uint64_t status;

    if (len < 12 || memcmp(line, "HTTP/1.", 7) != 0 || line[8] != ' ' ||
        !read_number(line + 9, stop, 10, &status, &end) || end != line + 12 ||
        (end < stop && *end != ' ') || status < 100)
        return false;
    a->status = (long)status;
    a->is_last = line[7] == '0';
    return true;
}

/* True if the list, with commas between, has the word, whatever the case of its letters. */
static bool has_word(const char *list, size_t len, const char *word)
{
    size_t n = strlen(word);

    for (size_t i = 0; i + n <= len; i++)
        if (strncasecmp(list + i, word, n) == 0 &&
            (i == 0 || strchr(", \t", list[i - 1]) != NULL) &&
            (i + n == len || strchr(", \t;", list[i + n]) != NULL))
            return true;
    return false;
}

static bool is_name(const char *line, const char *colon, const char *name)
{
    return (size_t)(colon - line) == strlen(name) &&
           strncasecmp(line, name, (size_t)(colon - line)) == 0;
}

static bool take_length(struct http_answer *a, const char *value, size_t len)
{
    const char *end;
    uint64_t n;

    if (!read_number(value, value + len, 10, &n, &end) || end != value + len ||
        (a->has_length && a->left != n))
        return false;
    a->has_length = true;
    a->left = n;
    return true;
}

static bool take_header(struct http_answer *a, const char *line, size_t len)
{
    const char *colon = memchr(line, ':', len), *value, *end = line + len;

    if (*line == ' ' || *line == '\t')
        return true; /* goes on from the line before, of which nothing of use is so long */
    if (colon == NULL)
        return false;
    for (value = colon + 1; value < end && (*value == ' ' || *value == '\t'); value++)
        ;
    while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    len = (size_t)(end - value);
    if (is_name(line, colon, "content-length"))
        return take_length(a, value, len);
    if (is_name(line, colon, "transfer-encoding"))
        a->is_chunked = a->is_chunked || has_word(value, len, "chunked");
    else if (is_name(line, colon, "connection"))
        a->is_last = has_word(value, len, "close") ||
                     (a->is_last && !has_word(value, len, "keep-alive"));
    else if (is_name(line, colon, "retry-after"))
        buf_add(&a->retry_after, value, a->retry_after.len == 0 ? len : 0);
    else if (is_name(line, colon, "location"))
        buf_add(&a->location, value, a->location.len == 0 ? len : 0);
    return true;
}

/* After the last header: what comes next. */
static enum http_answer_state after_head(struct http_answer *a)
{
    if (a->status == 101)
        return HTTP_ANSWER_NONSENSE; /* another protocol, which nobody asked for */
    if (a->status < 200) {
        a->has_length = a->is_chunked = false;
        return HTTP_ANSWER_STATUS;
    }
    if (a->status == 204 || a->status == 304)
        return HTTP_ANSWER_WHOLE;
    if (a->is_chunked)
        return HTTP_ANSWER_CHUNK_SIZE;
    if (a->has_length)
        return a->left > 0 ? HTTP_ANSWER_BODY_LENGTH : HTTP_ANSWER_WHOLE;
    a->is_last = true;
    return HTTP_ANSWER_BODY_TO_END;
}

static enum http_answer_state take_line(struct http_answer *a, const char *line, size_t len)
{
    const char *end;

    switch (a->state) {
    case HTTP_ANSWER_STATUS:
        return take_status(a, line, len) ? HTTP_ANSWER_HEADER : HTTP_ANSWER_NONSENSE;
    case HTTP_ANSWER_HEADER:
        if (len == 0)
            return after_head(a);
        return take_header(a, line, len) ? HTTP_ANSWER_HEADER : HTTP_ANSWER_NONSENSE;
    case HTTP_ANSWER_CHUNK_SIZE:
        if (!read_number(line, line + len, 16, &a->left, &end))
            return HTTP_ANSWER_NONSENSE;
        return a->left > 0 ? HTTP_ANSWER_CHUNK_DATA : HTTP_ANSWER_TRAILER;
    case HTTP_ANSWER_CHUNK_END:
        return len == 0 ? HTTP_ANSWER_CHUNK_SIZE : HTTP_ANSWER_NONSENSE;
    default:
        return len == 0 ? HTTP_ANSWER_WHOLE : HTTP_ANSWER_TRAILER;
    }
}

/* ---- bytes ---- */

/* Takes bytes up to the end of a line. */
static size_t take_some_of_line(struct http_answer *a, const char *bytes, size_t len)
{
    const char *eol = memchr(bytes, '\n', len), *line = bytes;
    size_t used = eol != NULL ? (size_t)(eol - bytes) + 1 : len, n = used;

    a->head_len += used;
    if (a->head_len > LONGEST_HEAD) {
        a->state = HTTP_ANSWER_NONSENSE;
        return used;
    }
    if (eol == NULL || a->line.len > 0) {
        buf_add(&a->line, bytes, used);
        line = a->line.data;
        n = a->line.len;
    }
    if (!buf_ok(&a->line)) {
        a->state = HTTP_ANSWER_NONSENSE;
    } else if (eol != NULL) {
        n -= n > 1 && line[n - 2] == '\r' ? 2 : 1;
        a->state = take_line(a, line, n);
        buf_clear(&a->line);
    }
    return used;
}

static size_t take_some_of_body(struct http_answer *a, const char *bytes, size_t len)
{
    size_t room = HTTP_ANSWER_BODY - a->body.len;
    size_t n = a->state == HTTP_ANSWER_BODY_TO_END || len < a->left ? len : (size_t)a->left;

    buf_add(&a->body, bytes, n < room ? n : room);
    if (a->state == HTTP_ANSWER_BODY_TO_END)
        return n;
    a->left -= n;
    if (a->left == 0)
        a->state = a->state == HTTP_ANSWER_CHUNK_DATA ? HTTP_ANSWER_CHUNK_END : HTTP_ANSWER_WHOLE;
    return n;
}

size_t http_answer_take(struct http_answer *a, const char *bytes, size_t len)
{
    size_t used = 0;

    while (used < len && a->state < HTTP_ANSWER_WHOLE) {
        switch (a->state) {
        case HTTP_ANSWER_CHUNK_DATA: case HTTP_ANSWER_BODY_LENGTH: case HTTP_ANSWER_BODY_TO_END:
            used += take_some_of_body(a, bytes + used, len - used);
            break;
        default:
            if (a->state == HTTP_ANSWER_CHUNK_SIZE)
                a->head_len = 0;
            used += take_some_of_line(a, bytes + used, len - used);
        }
    }
    return used;
}

bool http_answer_end(struct http_answer *a)
{
    if (a->state == HTTP_ANSWER_BODY_TO_END)
        a->state = HTTP_ANSWER_WHOLE;
    return a->state == HTTP_ANSWER_WHOLE;
}
