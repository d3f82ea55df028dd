/* fuzz_position.c -- any bytes as the text of a position, followed by the right sum.
 * SPDX-License-Identifier: MIT
 *
 * What is read is written as a text that reads as the same; and a text with another sum, or under
 * another name, is refused. */
#include "fuzz.h"

#include "capture/position_text.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char source[] = "public.t";

/* As the writer reckons it: FNV-1a over the name and the text. */
static uint64_t sum(const char *p, size_t len)
{
    uint64_t h = 14695981039346656037u;

    for (const char *s = source; *s != '\0'; s++)
        h = (h ^ (unsigned char)*s) * 1099511628211u;
    for (size_t i = 0; i < len; i++)
        h = (h ^ (unsigned char)p[i]) * 1099511628211u;
    return h;
}

static void check_refused(const char *name, const char *text)
{
    struct position p;

    CHECK_OF(!position_text_read(&p, name, text), text, strlen(text));
    CHECK(p.signature == NULL && p.leaves == NULL && p.horizon.seen.v == NULL);
}

static void check_again(const struct position *p)
{
    struct position again;
    struct buf first, second;

    buf_init(&first, SIZE_MAX / 2);
    buf_init(&second, SIZE_MAX / 2);
    position_text_write(p, source, &first);
    CHECK(buf_ok(&first));
    CHECK_OF(position_text_read(&again, source, first.data), first.data, first.len);
    position_text_write(&again, source, &second);
    CHECK_OF(first.len == second.len && memcmp(first.data, second.data, first.len) == 0,
             second.data, second.len);
    CHECK(again.last_change == (p->reads > 0 ? p->last_change : 0));
    position_fini(&again);
    check_refused("public.u", first.data);
    first.data[first.len / 3] ^= 1;
    check_refused(source, first.data);
    buf_fini(&first);
    buf_fini(&second);
}

/* True if the text lists so many xids that it takes a while to read. */
static bool is_long(const char *text)
{
    const char *p = text;

    while ((p = strchr(p, '-')) != NULL) {
        const char *from = p;

        while (from > text && from[-1] >= '0' && from[-1] <= '9')
            from--;
        if (strtoull(p + 1, NULL, 10) - strtoull(from, NULL, 10) > 1u << 16)
            return true;
        p++;
    }
    return false;
}

void fuzz_position(const uint8_t *bytes, size_t len)
{
    struct position p;
    struct buf b;

    buf_init(&b, SIZE_MAX / 2);
    buf_add(&b, bytes, len);
    len = strlen(b.data != NULL ? b.data : "");
    if (len > 0 && b.data[len - 1] == '\n' && !is_long(b.data)) {
        b.len = len;
        buf_printf(&b, "sum %016" PRIx64 "\n", sum(b.data, len));
        if (position_text_read(&p, source, b.data)) {
            check_again(&p);
            position_fini(&p);
        }
    }
    buf_fini(&b);
}
