/* workers.c -- a member of a group of Kafka: a process for each partition that it is assigned.
 * SPDX-License-Identifier: MIT */
#include "host/workers.h"

#include "base/array.h"
#include "base/clock.h"
#include "base/text.h"
#include "lua/api_watch.h"
#include "lua/hooks.h"
#include "lua/hooks_feed.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define WORKER_FD (STDERR_FILENO + 1) /* of a worker: its end of the socket */
#define LONGEST 8192                  /* bytes of a word of the command line */
#define MOST_MS 1000                  /* between two turns */

/* ---- how a worker is started ---- */

/* Its words and its environment. */
struct start {
    char **argv, **environment; /* owned, with texts that are borrowed or in <texts> */
    char *texts[6];             /* owned */
    size_t n_texts;
};

/* A text of our own; NULL: memory is out, or it is too long. */
static char *text(struct start *s, const char *format, ...) WARN_PRINTF(2, 3);

static char *text(struct start *s, const char *format, ...)
{
    char bytes[LONGEST];
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(bytes, sizeof bytes, format, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof bytes)
        return NULL;
    return s->texts[s->n_texts++] = strdup(bytes);
}

static size_t count(char *const *texts)
{
    size_t n = 0;

    while (texts[n] != NULL)
        n++;
    return n;
}

/* The address where the worker of a partition listens, as an option. */
static char *listen_option(struct start *s, const char *address, int partition)
{
    const char *colon = strrchr(address, ':');
    uint64_t port;

    if (strncmp(address, "unix:", 5) == 0)
        return text(s, "--listen=%s.%d", address, partition);
    if (colon == NULL || !text_is_u64(colon + 1, &port))
        return text(s, "--listen=%s", address);
    return text(s, "--listen=%.*s:%d", (int)(colon - address), address,
                port == 0 ? 0 : (int)port + 1 + partition);
}

/* The words: those of this process, and at the end of the options some that replace others. */
static bool make_words(struct start *s, const struct workers *w, int partition, bool is_first)
{
    const struct script_options *o = &w->script->o;
    char *const *words = w->steer->command->argv;
    size_t n = count(words), options = w->steer->command->n_options, to;
    size_t at = options > 1 && strcmp(words[options - 1], "--") == 0 ? options - 1 : options;

    s->argv = calloc(n + 5, sizeof *s->argv);
    if (s->argv == NULL)
        return false;
    memcpy(s->argv, words, at * sizeof *words);
    to = at;
    if ((s->argv[to++] = text(s, "--name=%s/%d", o->pipeline, partition)) == NULL ||
        (w->listen != NULL &&
         (s->argv[to++] = listen_option(s, w->listen, partition)) == NULL) ||
        (o->record != NULL &&
         (s->argv[to++] = text(s, "--record=%s.%d", o->record, partition)) == NULL) ||
        (is_first && o->resets &&
         (s->argv[to++] = o->reset != NULL ? text(s, "--reset=%s", o->reset)
                                           : text(s, "--reset")) == NULL))
        return false;
    memcpy(s->argv + to, words + at, (n - at) * sizeof *words);
    return true;
}

/* The environment: that of this process; what is for this process alone is left out. */
static bool make_environment(struct start *s, const struct workers *w, int partition)
{
    static const char *const ours[] = { "NOTIFY_SOCKET=", "WATCHDOG_USEC=", "WATCHDOG_PID=" };
    char *const *all = w->steer->command->environment;
    size_t n = count(all), to = 0;

    s->environment = calloc(n + 2, sizeof *s->environment);
    if (s->environment == NULL)
        return false;
    for (size_t i = 0; i < n; i++) {
        bool is_ours = false;

        for (size_t k = 0; k < sizeof ours / sizeof *ours; k++)
            is_ours = is_ours || strncmp(all[i], ours[k], strlen(ours[k])) == 0;
        if (!is_ours)
            s->environment[to++] = all[i];
    }
    s->environment[to] = text(s, "PGCDC_MEMBER=%d %ld %d", partition, (long)getpid(), WORKER_FD);
    return s->environment[to] != NULL;
}

static void free_start(struct start *s)
{
    for (size_t i = 0; i < s->n_texts; i++)
        free(s->texts[i]);
    free(s->argv);
    free(s->environment);
}

/* Starts the program. Returns 0 or the number of an error. */
static int spawn(const struct workers *w, const struct start *s, int theirs, pid_t *pid)
{
    static const int ignored[] = { SIGPIPE, SIGXFSZ };
    posix_spawn_file_actions_t files;
    posix_spawnattr_t how;
    sigset_t none, plain;
    int rc;

    sigemptyset(&none);
    sigemptyset(&plain);
    for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++)
        sigaddset(&plain, ignored[i]);
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_init(&how);
    posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&files, theirs, WORKER_FD);
    posix_spawnattr_setsigmask(&how, &none);
    posix_spawnattr_setsigdefault(&how, &plain);
    posix_spawnattr_setflags(&how, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    rc = posix_spawn(pid, w->steer->command->exe, &files, &how, s->argv, s->environment);
    posix_spawnattr_destroy(&how);
    posix_spawn_file_actions_destroy(&files);
    return rc;
}

static bool start_worker(void *arg, int partition, bool is_first, pid_t *pid, int *fd,
                         struct err *e)
{
    const struct workers *w = arg;
    struct start s = { 0 };
    int ends[2], rc;
    bool ok = make_words(&s, w, partition, is_first) && make_environment(&s, w, partition);

    if (!ok) {
        free_start(&s);
        return err_set(e, ERR_INTERNAL, "the command line of a worker is too long");
    }
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) {
        free_start(&s);
        return err_set(e, ERR_INTERNAL, "socketpair: %s", strerror(errno));
    }
    rc = spawn(w, &s, ends[1], pid);
    free_start(&s);
    close(ends[1]);
    if (rc == 0) {
        *fd = ends[0];
        return true;
    }
    close(ends[0]);
    return err_set(e, ERR_INTERNAL, "%s: %s", w->steer->command->exe, strerror(rc));
}

/* ---- the loop ---- */

struct loop {
    const struct workers *w;
    struct script *script;
    struct pollfd *fds; /* owned scratch */
    size_t cap_fds;
};

/* Sleeps until something is to be done, <wait_ms> at most. */
static bool sleep_until_news(struct loop *l, int64_t wait_ms, struct err *e)
{
    struct script *s = l->script;
    size_t n = s->n_watches;

    if (!ARRAY_RESERVE(l->fds, 0, l->cap_fds, n + 3))
        return err_memory(e);
    api_watch_put(s, l->fds);
    l->fds[n] = (struct pollfd){ .fd = *s->o.stop ? -1 : s->o.stop_fd, .events = POLLIN };
    l->fds[n + 1] = (struct pollfd){ .fd = l->w->steer->news->fd, .events = POLLIN };
    l->fds[n + 2] = (struct pollfd){ .fd = l->w->steer->reload.fd, .events = POLLIN };
    wait_ms = clock_shorter(wait_ms, steer_wait_ms(l->w->steer));
    wait_ms = publish_wait_ms(l->w->publish, clock_shorter(wait_ms, MOST_MS));
    beat_set(s->beat, BEAT_WAITS, 0);
    if (poll(l->fds, n + 3, (int)wait_ms) < 0)
        return errno == EINTR || err_set(e, ERR_INTERNAL, "poll: %s", strerror(errno));
    for (size_t i = 0; i < n; i++)
        if (l->fds[i].revents != 0 &&
            !hooks_watched(s, l->fds[i].fd, l->fds[i].revents, e))
            return false;
    return true;
}

static bool turn(struct loop *l, struct err *e)
{
    int64_t wait_ms;
    bool is_over;

    do {
        publish_turn(l->w->publish);
        if (!steer_turn(l->w->steer, e) || !hooks_feed_group(l->script, &wait_ms, &is_over, e) ||
            (!is_over && !sleep_until_news(l, wait_ms, e)))
            return false;
    } while (!is_over);
    return true;
}

bool workers_run(const struct workers *w, struct err *e)
{
    struct loop l = { .w = w, .script = w->script };
    bool ok;

    if (w->mode == READER_ONCE)
        return err_set(e, ERR_USAGE, "--once is not for a source with a group: who else is in the "
                       "group decides whose the partitions are");
    w->script->start_worker = start_worker;
    w->script->worker_arg = (void *)w;
    ok = turn(&l, e);
    w->script->start_worker = NULL;
    free(l.fds);
    return ok;
}
