/* request.c -- what `pgcdc-lua ctl` asks of the running program, and the first line of the answer.
 * SPDX-License-Identifier: MIT */
#include "serve/request.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEAD "pgcdc-ctl "
#define HEAD_LEN (sizeof HEAD - 1)

void request_put(struct buf *to, const char *command)
{
    buf_printf(to, HEAD "%d", REQUEST_VERSION);
    buf_putc(to, '\0');
    buf_add(to, command, strlen(command) + 1);
}

void request_put_word(struct buf *to, const char *word, size_t len)
{
    buf_add(to, word, len);
    buf_putc(to, '\0');
}

void request_put_end(struct buf *to)
{
    buf_putc(to, '\0');
}

enum request_state request_look(const char *bytes, size_t len, const char **why)
{
    char head[32];
    int n = snprintf(head, sizeof head, HEAD "%d", REQUEST_VERSION) + 1;

    *why = "this is not what pgcdc-lua ctl sends";
    if (memcmp(bytes, HEAD, len < HEAD_LEN ? len : HEAD_LEN) != 0)
        return REQUEST_WRONG;
    if (len >= (size_t)n && memcmp(bytes, head, (size_t)n) != 0) {
        *why = "pgcdc-lua ctl is of another version than the program that runs: use the one that "
               "the program was started from, or start the program anew";
        return REQUEST_WRONG;
    }
    if (len > (size_t)n && bytes[n] == '\0')
        return REQUEST_WRONG; /* no command */
    if (len > (size_t)n && bytes[len - 1] == '\0' && bytes[len - 2] == '\0')
        return REQUEST_WHOLE;
    *why = "the request is longer than 64 kB";
    return len >= REQUEST_MAX ? REQUEST_WRONG : REQUEST_PART;
}

struct request *request_new(struct buf *bytes)
{
    struct request *r = calloc(1, sizeof *r);

    if (r == NULL)
        return NULL;
    r->len = bytes->len;
    r->bytes = buf_take(bytes);
    if (r->bytes == NULL) {
        free(r);
        return NULL;
    }
    r->command = r->bytes + strlen(r->bytes) + 1;
    return r;
}

void request_free(struct request *r)
{
    if (r == NULL)
        return;
    free(r->bytes);
    free(r);
}

/* The word after <word>, the first one after the command; NULL: there is none. */
static const char *next_word(const struct request *r, const char *word)
{
    const char *p = word != NULL ? word : r->command;

    p += strlen(p) + 1;
    return p < r->bytes + r->len && *p != '\0' ? p : NULL;
}

const char *request_word(const struct request *r, const char *name)
{
    size_t len = strlen(name);

    for (const char *w = next_word(r, NULL); w != NULL; w = next_word(r, w))
        if (strncmp(w, name, len) == 0 && w[len] == '=')
            return w + len + 1;
    return NULL;
}

const char *request_unknown(const struct request *r, const char *const *names, size_t *len)
{
    for (const char *w = next_word(r, NULL); w != NULL; w = next_word(r, w)) {
        bool is_known = false;

        *len = strcspn(w, "=");
        for (size_t i = 0; names[i] != NULL; i++)
            is_known = is_known || (strlen(names[i]) == *len && memcmp(names[i], w, *len) == 0);
        if (!is_known)
            return w;
    }
    return NULL;
}

void request_answer(struct json_text *j, struct buf *to, const char *version, bool is_ok,
                    const char *text)
{
    *j = (struct json_text){ .to = to };
    json_text_begin(j, NULL, '{');
    json_text_u64(j, "ctl", REQUEST_VERSION);
    json_text_string(j, "version", version);
    json_text_bool(j, "ok", is_ok);
    json_text_string(j, is_ok ? "text" : "error", text);
}

void request_end(struct json_text *j)
{
    json_text_end(j, '}');
    buf_putc(j->to, '\n');
}
