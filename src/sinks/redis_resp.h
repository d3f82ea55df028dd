/* redis_resp.h -- values of RESP2, the protocol of Redis, taken apart.
 *
 * SPDX-License-Identifier: MIT */
#ifndef REDIS_RESP_H
#define REDIS_RESP_H

#include "base/buf.h"

struct redis_resp {
    char kind;        /* its first byte: one of + - : $ *; or 0 for null */
    const char *text; /* in the buffer */
    size_t len;
    long long number; /* of a list: how many values follow */
};

#define REDIS_RESP_NONSENSE SIZE_MAX

/* Takes the value at place <at> of the buffer apart. Returns the place after it (of a list, of its
 * first value); 0 if not all of it is there; or REDIS_RESP_NONSENSE. */
size_t redis_resp_parse(const struct buf *b, size_t at, struct redis_resp *v);

#endif
