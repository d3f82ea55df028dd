/* http_gzip.c -- bodies that are compressed, by zlib.
 * SPDX-License-Identifier: MIT */
#include "sinks/http_gzip.h"

#include <limits.h>
#include <zlib.h>

bool http_gzip(const char *text, size_t len, struct buf *to)
{
    z_stream z = { 0 };
    char *room;
    size_t size;
    bool ok;

    if (len > UINT_MAX / 2 ||
        deflateInit2(&z, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        return false;
    size = deflateBound(&z, len);
    room = buf_reserve(to, size);
    z.next_in = (Bytef *)(uintptr_t)text;
    z.avail_in = (uInt)len;
    z.next_out = (Bytef *)room;
    z.avail_out = (uInt)size;
    ok = room != NULL && deflate(&z, Z_FINISH) == Z_STREAM_END;
    to->len += ok ? size - z.avail_out : 0;
    deflateEnd(&z);
    return ok;
}
