/* text.c -- the nearest of several names, for error messages.
 * SPDX-License-Identifier: MIT */
#include "base/text.h"

#include <stdint.h>
#include <string.h>

#define LETTERS 64

size_t text_distance(const char *a, const char *b)
{
    size_t n = strnlen(a, LETTERS), m = strnlen(b, LETTERS);
    size_t row[LETTERS + 1];

    for (size_t j = 0; j <= m; j++)
        row[j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t diagonal = row[0];

        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t cost = diagonal + (a[i - 1] != b[j - 1]);

            diagonal = row[j];
            if (row[j] + 1 < cost)
                cost = row[j] + 1;
            if (row[j - 1] + 1 < cost)
                cost = row[j - 1] + 1;
            row[j] = cost;
        }
    }
    return row[m];
}

const char *text_nearest(const char *word, const char *const *names, size_t n)
{
    const char *nearest = NULL;
    size_t best = SIZE_MAX;

    for (size_t i = 0; i < n; i++) {
        size_t d = text_distance(word, names[i]);

        if (d < best) {
            best = d;
            nearest = names[i];
        }
    }
    return best <= 1 + strlen(word) / 3 ? nearest : NULL;
}
