/* array.h -- arrays that grow.
 *
 * An array is three fields or variables: its items <v>, their number <n>, and the number that
 * there is room for, <cap>. An empty array has 0 in all of them; free(v) frees it. The macros take
 * them as lvalues, and evaluate them more than once. A macro that may need memory is true if it got
 * that; else it is false and nothing has changed.
 *
 * SPDX-License-Identifier: MIT */
#ifndef ARRAY_H
#define ARRAY_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* Room for <more> items after those that are there. */
#define ARRAY_RESERVE(v, n, cap, more) \
    ((more) <= (cap) - (n) || \
     ((v) = array_grow((v), &(cap), (n) + (more), sizeof *(v)), (more) <= (cap) - (n)))

/* Appends an item. */
#define ARRAY_PUSH(v, n, cap, ...) \
    (ARRAY_RESERVE(v, n, cap, 1) && ((v)[(n)++] = (__VA_ARGS__), true))

/* Puts an item at index <i>, before the one that is there. */
#define ARRAY_INSERT(v, n, cap, i, ...) \
    (ARRAY_RESERVE(v, n, cap, 1) && \
     (memmove((v) + (i) + 1, (v) + (i), ((n) - (i)) * sizeof *(v)), \
      (v)[i] = (__VA_ARGS__), (n)++, true))

/* A statement. Sets <i> to the first index for which <is_before>, an expression with <i>, is false,
 * or to <n> if there is none. <is_before> must be true for all indexes before one for which it is
 * true: the array is sorted. */
#define ARRAY_LOWER_BOUND(i, n, is_before) \
    do { \
        size_t array_low = 0, array_high = (n); \
        while (array_low < array_high) { \
            (i) = array_low + (array_high - array_low) / 2; \
            if (is_before) \
                array_low = (i) + 1; \
            else \
                array_high = (i); \
        } \
        (i) = array_low; \
    } while (0)

/* Returns <v>, perhaps moved, with room for at least <need> items of <size> bytes, and sets *cap to
 * the number that there is room for. Without memory <v> and *cap stay as they are. */
void *array_grow(void *v, size_t *cap, size_t need, size_t size);

/* Returns a copy of <n> items, owned, or NULL if <n> is 0. Without memory it returns NULL and sets
 * *ok to false; otherwise *ok stays as it is, so that several calls can share it. */
void *array_copy(const void *v, size_t n, size_t size, bool *ok);

#endif
