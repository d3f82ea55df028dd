/* lsn.c -- positions in the server's log.
 * SPDX-License-Identifier: MIT */
#include "pg/lsn.h"

#include <ctype.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>

/* Reads one to eight hex digits at *p, and moves *p after them. */
static bool read_half(const char **p, uint64_t *half)
{
    size_t n = 0;

    for (*half = 0; isxdigit((unsigned char)**p); ++*p, n++) {
        unsigned char c = (unsigned char)**p;

        if (n == 8)
            return false;
        *half = *half << 4 | (uint64_t)(isdigit(c) ? c - '0' : tolower(c) - 'a' + 10);
    }
    return n > 0;
}

bool lsn_read(const char *text, uint64_t *lsn)
{
    uint64_t high, low;

    *lsn = 0;
    if (!read_half(&text, &high) || *text++ != '/' || !read_half(&text, &low) || *text != '\0')
        return false;
    *lsn = high << 32 | low;
    return true;
}

const char *lsn_write(uint64_t lsn, char text[LSN_TEXT])
{
    snprintf(text, LSN_TEXT, "%" PRIX32 "/%" PRIX32, (uint32_t)(lsn >> 32), (uint32_t)lsn);
    return text;
}

#define PAGE 8192
#define PAGE_HEAD 40 /* the longer one of its two heads */

bool lsn_reaches(uint64_t lsn, uint64_t target)
{
    return lsn >= target || (lsn % PAGE == 0 && lsn + PAGE_HEAD >= target);
}
