/* array.h -- arrays that grow.
 *
 * An array is three fields or variables: its items <v>, how many there are, <n>, and how many
 * there is room for, <cap>. All of them 0 is an empty one; free(v) frees it. The macros take them
 * as they are and evaluate them more than once. Those that may need memory are true if it was
 * there; else nothing has changed.
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

/* A statement. Sets <i> to the first index below <n> for which <is_before>, an expression in <i>,
 * is false, or to <n>; where it is true it is true for all indexes below. */
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

/* <v> with room for at least <need> items of <size> bytes, and *cap set to that; without memory
 * <v> as it was. */
void *array_grow(void *v, size_t *cap, size_t need, size_t size);

/* A copy of <n> items, owned; NULL where there are none. *ok is set to false without memory. */
void *array_copy(const void *v, size_t n, size_t size, bool *ok);

#endif
