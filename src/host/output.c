/* output.c -- standard output, as a sink of the whole program.
 * SPDX-License-Identifier: MIT */
#include "host/output.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define BUFFER ((size_t)32 << 10)

bool output_open(bool is_closed, struct err *e)
{
    static char buffer[BUFFER]; /* of its own glibc makes one of st_blksize, whatever it is told */

    if (is_closed)
        return err_set(e, ERR_OUTPUT, "standard output is closed: send it somewhere, "
                       "be it to /dev/null");
    setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
    return true;
}

/* An earlier write failed and its errno is lost. True if that was because its reader has left. */
static bool reader_has_left(void)
{
    struct pollfd fd = { .fd = STDOUT_FILENO, .events = POLLOUT };

    return poll(&fd, 1, 0) == 1 && (fd.revents & POLLERR) != 0;
}

bool output_flush(struct beat *beat, struct err *e)
{
    bool ok;
    int error;

    errno = 0;
    beat_serve(beat, true);
    ok = fflush(stdout) == 0 && !ferror(stdout);
    error = errno;
    beat_serve(beat, false);
    if (ok)
        return true;
    if (error == EPIPE || (error == 0 && reader_has_left()))
        return err_set(e, ERR_STOPPED, "the reader of standard output is gone");
    return err_set(e, ERR_OUTPUT, "standard output cannot be written: %s",
                   error != 0 ? strerror(error) : "an earlier write failed");
}
