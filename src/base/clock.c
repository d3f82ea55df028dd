/* clock.c -- what time it is.
 * SPDX-License-Identifier: MIT */
#include "base/clock.h"

#include <string.h>
#include <time.h>

int64_t clock_mono_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

int64_t clock_tick_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

int64_t clock_mono_ms(void)
{
    return clock_mono_ns() / 1000000;
}

int64_t clock_boot_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_BOOTTIME, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

void clock_init_cond(pthread_cond_t *cond)
{
    pthread_condattr_t attr;

    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
}

void clock_wait_cond(pthread_cond_t *cond, pthread_mutex_t *mutex, int64_t wait_ms)
{
    struct timespec until;

    if (wait_ms < 0) {
        pthread_cond_wait(cond, mutex);
        return;
    }
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += wait_ms / 1000;
    until.tv_nsec += wait_ms % 1000 * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    pthread_cond_timedwait(cond, mutex, &until);
}

int64_t clock_shorter(int64_t a, int64_t b)
{
    return a < 0 || (b >= 0 && b < a) ? b : a;
}

int64_t clock_wall_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int64_t clock_wall_us(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

void clock_write(int64_t us, char text[CLOCK_TEXT])
{
    static _Thread_local time_t last; /* a second, */
    static _Thread_local char last_text[CLOCK_TEXT]; /* as text: most follow in the same one */
    static _Thread_local size_t n;    /* the length of that */
    int64_t rest = (us % 1000000 + 1000000) % 1000000;
    time_t seconds = (time_t)((us - rest) / 1000000);
    int ms = (int)(rest / 1000);

    if (n == 0 || seconds != last) {
        struct tm tm;

        gmtime_r(&seconds, &tm);
        n = strftime(last_text, sizeof last_text, "%Y-%m-%dT%H:%M:%S", &tm);
        last = seconds;
    }
    memcpy(text, last_text, n);
    memcpy(text + n, (char[]){ '.', (char)('0' + ms / 100), (char)('0' + ms / 10 % 10),
                               (char)('0' + ms % 10), 'Z', '\0' }, 6);
}

void clock_utc(char text[CLOCK_TEXT])
{
    clock_write(clock_wall_us(), text);
}
