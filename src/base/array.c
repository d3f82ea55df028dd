/* array.c -- arrays that grow.
 * SPDX-License-Identifier: MIT */
#include "base/array.h"

#include <stdint.h>
#include <stdlib.h>

void *array_grow(void *v, size_t *cap, size_t need, size_t size)
{
    size_t n = *cap + *cap / 2 + 8;
    void *grown;

    if (n < need)
        n = need;
    if (n > SIZE_MAX / 2 / size)
        return v;
    grown = realloc(v, n * size);
    if (grown == NULL)
        return v;
    *cap = n;
    return grown;
}

void *array_copy(const void *v, size_t n, size_t size, bool *ok)
{
    void *copy = n > 0 ? malloc(n * size) : NULL;

    if (copy != NULL)
        memcpy(copy, v, n * size);
    *ok = *ok && (n == 0 || copy != NULL);
    return copy;
}
