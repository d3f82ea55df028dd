/* saboteur_clock.c -- a wall clock that is wrong, see saboteur.c.
 * SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static long wrong_by; /* seconds */
static int file = -1; /* that says so; -1: there is none */

static void __attribute__((constructor)) begin(void)
{
    const char *wrong = getenv("SABOTAGE_CLOCK");

    if (wrong != NULL && *wrong == '/')
        file = (int)syscall(SYS_openat, AT_FDCWD, wrong, O_RDONLY | O_CLOEXEC);
    else if (wrong != NULL)
        wrong_by = strtol(wrong, NULL, 10);
}

int __real_clock_gettime(clockid_t clock, struct timespec *t);
int __wrap_clock_gettime(clockid_t clock, struct timespec *t);
int __wrap_clock_gettime(clockid_t clock, struct timespec *t)
{
    int got = __real_clock_gettime(clock, t);
    char text[32] = "";

    if (clock != CLOCK_REALTIME)
        return got;
    if (file >= 0 && syscall(SYS_pread64, file, text, sizeof text - 1, 0L) > 0)
        t->tv_sec += strtol(text, NULL, 10);
    else
        t->tv_sec += wrong_by;
    return got;
}
