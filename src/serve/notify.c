/* notify.c -- tells systemd how the program is: the protocol of $NOTIFY_SOCKET.
 * SPDX-License-Identifier: MIT */
#include "serve/notify.h"

#include "base/clock.h"

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define SOCKET "NOTIFY_SOCKET"
#define TICK_MS 1000

struct notify {
    struct figures_board *board; /* borrowed */
    struct health_options o;
    union {
        struct sockaddr any;
        struct sockaddr_un un;
    } address;
    socklen_t address_len;
    int fd, stop_fd;
    int64_t watchdog_ms; /* between two signs of life; 0: nobody waits for them */
    pthread_t thread;
    /* the thread's: */
    int64_t alive_ms;    /* when the last sign was given */
    bool was_ready, was_stopping;
    char status[1500];   /* that was told last */
};

/* Whoever does not take it has no use for it. */
static void tell(const struct notify *n, const char *text)
{
    sendto(n->fd, text, strlen(text), MSG_NOSIGNAL, &n->address.any, n->address_len);
}

/* ---- what is told ---- */

static bool are_all_read(const struct figures *f)
{
    for (size_t i = 0; i < f->n_sources; i++)
        if (f->sources[i].phase < FIGURES_FOLLOWS)
            return false;
    return f->script_half != NULL || f->n_sources > 0;
}

static double latest(const struct figures *f, int64_t now_us, int64_t now_ms)
{
    double most = 0;

    for (size_t i = 0; i < f->n_sources; i++) {
        double lag = figures_lag(&f->sources[i], now_us, now_ms);

        most = lag > most ? lag : most;
    }
    return most;
}

/* One line: what is wrong, else how many sources there are and how late the latest is. */
static void write_status(const struct health *h, const struct figures *f, int64_t now_us,
                         int64_t now_ms, char *to, size_t size)
{
    if (h->n > 0)
        snprintf(to, size, "STATUS=%s", h->problems[0].text);
    else
        snprintf(to, size, "STATUS=%zu source%s, %.0f s late", f->n_sources,
                 f->n_sources == 1 ? "" : "s", latest(f, now_us, now_ms));
    for (char *p = to; *p != '\0'; p++)
        if ((unsigned char)*p < ' ')
            *p = ' ';
}

static void look(struct notify *n, const struct figures *f, const struct health *h, int64_t now_us,
                 int64_t now_ms)
{
    char status[sizeof n->status];

    if (!n->was_ready && are_all_read(f)) {
        tell(n, "READY=1");
        n->was_ready = true;
    }
    if (f->work == BEAT_STOPS && !n->was_stopping) {
        tell(n, "STOPPING=1");
        n->was_stopping = true;
    }
    write_status(h, f, now_us, now_ms, status, sizeof status);
    if (strcmp(status, n->status) != 0) {
        memcpy(n->status, status, sizeof status);
        tell(n, status);
    }
    if (h->is_live && n->watchdog_ms > 0 && now_ms - n->alive_ms >= n->watchdog_ms) {
        n->alive_ms = now_ms;
        tell(n, "WATCHDOG=1");
    }
}

static void *work(void *arg)
{
    struct notify *n = arg;
    struct pollfd stop = { .fd = n->stop_fd, .events = POLLIN };
    int64_t wait_ms = n->watchdog_ms > 0 && n->watchdog_ms < TICK_MS ? n->watchdog_ms : TICK_MS;

    do {
        int64_t now_us = clock_wall_us(), now_ms = clock_mono_ms();
        struct figures f;
        struct health h;

        figures_watch(n->board);
        if (!figures_copy(n->board, &f))
            continue;
        if (health_find(&h, &f, &n->o, now_us, now_ms)) {
            look(n, &f, &h, now_us, now_ms);
            health_fini(&h);
        }
        figures_fini(&f);
    } while (poll(&stop, 1, (int)wait_ms) <= 0);
    return NULL;
}

/* ---- birth and death ---- */

bool notify_take(struct notify_wish *w, struct err *e)
{
    const char *path = getenv(SOCKET), *us = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
    const struct sockaddr_un un;

    *w = (struct notify_wish){ 0 };
    if (path == NULL || *path == '\0')
        return true;
    if ((*path != '/' && *path != '@') || strlen(path) >= sizeof un.sun_path)
        return err_set(e, ERR_USAGE, "$" SOCKET " is no path of a socket: %s", path);
    w->socket = strdup(path);
    if (w->socket == NULL)
        return err_memory(e);
    if (us != NULL && (pid == NULL || strtol(pid, NULL, 10) == (long)getpid()))
        w->watchdog_ms = strtoll(us, NULL, 10) / 2000; /* twice before patience is lost */
    unsetenv(SOCKET);
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
    return true;
}

/* "@name" is one without a file. */
static void set_address(struct notify *n, const char *path)
{
    size_t len = strlen(path);

    n->address.un.sun_family = AF_UNIX;
    memcpy(n->address.un.sun_path, path, len);
    if (*path == '@')
        n->address.un.sun_path[0] = '\0';
    n->address_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
}

static bool start(struct notify *n, struct err *e)
{
    int error;

    n->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    n->stop_fd = eventfd(0, EFD_CLOEXEC);
    if (n->fd < 0 || n->stop_fd < 0)
        return err_set(e, ERR_INTERNAL, "a socket for systemd: %s", strerror(errno));
    error = pthread_create(&n->thread, NULL, work, n);
    return error == 0 || err_set(e, ERR_INTERNAL, "a thread for systemd: %s", strerror(error));
}

static void close_all(struct notify *n)
{
    if (n->fd >= 0)
        close(n->fd);
    if (n->stop_fd >= 0)
        close(n->stop_fd);
    free(n);
}

struct notify *notify_new(const struct notify_wish *w, struct figures_board *board,
                          const struct health_options *o, struct err *e)
{
    struct notify *n = calloc(1, sizeof *n);

    if (n == NULL) {
        err_memory(e);
        return NULL;
    }
    *n = (struct notify){ .board = board, .o = *o, .fd = -1, .stop_fd = -1,
                          .watchdog_ms = w->watchdog_ms };
    n->o.shows_rows = false; /* it is kept in a journal */
    set_address(n, w->socket);
    if (!start(n, e)) {
        close_all(n);
        return NULL;
    }
    return n;
}

void notify_free(struct notify *n, bool is_reloading)
{
    uint64_t one = 1;
    char text[80];

    if (n == NULL)
        return;
    while (write(n->stop_fd, &one, sizeof one) < 0 && errno == EINTR)
        ;
    pthread_join(n->thread, NULL);
    snprintf(text, sizeof text, "RELOADING=1\nMONOTONIC_USEC=%lld",
             (long long)clock_mono_ns() / 1000);
    if (!n->was_stopping)
        tell(n, is_reloading ? text : "STOPPING=1");
    close_all(n);
}
