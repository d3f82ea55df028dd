/* reload.c -- whether the script would load, if the program were started anew.
 * SPDX-License-Identifier: MIT */
#include "host/reload.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define LOAD_MS 30000      /* a script has so long to load */
#define WAIT_MS 500        /* it has ended, and something else still has its end of the pipe */
#define TICK_MS 10         /* it has closed that, and is about to end */
#define SAID_MAX (64 << 10)

/* <argv> with --graph after the program's name. Owned, the texts borrowed; or NULL. */
static char **add_option(char *const *argv)
{
    static char graph[] = "--graph";
    size_t n = 0;
    char **all;

    while (argv[n] != NULL)
        n++;
    all = calloc(n + 2, sizeof *all);
    if (all == NULL || n == 0)
        return all;
    all[0] = argv[0];
    all[1] = graph;
    memcpy(all + 2, argv + 1, (n - 1) * sizeof *all);
    return all;
}

static int spawn(struct reload *r, int said, const char *exe, char *const *argv,
                 char *const *environment)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t how;
    sigset_t none;
    int rc;

    sigemptyset(&none);
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_init(&how);
    posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_adddup2(&files, said, STDERR_FILENO);
    posix_spawnattr_setsigmask(&how, &none);
    posix_spawnattr_setflags(&how, POSIX_SPAWN_SETSIGMASK);
    rc = posix_spawn(&r->pid, exe, &files, &how, argv, environment);
    posix_spawnattr_destroy(&how);
    posix_spawn_file_actions_destroy(&files);
    return rc;
}

bool reload_begin(struct reload *r, const char *exe, char *const *argv, char *const *environment,
                  struct err *e)
{
    char **all = add_option(argv);
    int ends[2], rc;

    if (all == NULL)
        return err_memory(e);
    if (pipe2(ends, O_CLOEXEC) != 0) {
        free(all);
        return err_set(e, ERR_INTERNAL, "pipe: %s", strerror(errno));
    }
    rc = spawn(r, ends[1], exe, all, environment);
    free(all);
    close(ends[1]);
    if (rc != 0) {
        close(ends[0]);
        r->pid = 0;
        return err_set(e, ERR_INTERNAL, "%s: %s", exe, strerror(rc));
    }
    r->fd = ends[0];
    fcntl(r->fd, F_SETFL, O_NONBLOCK);
    buf_init(&r->said, SAID_MAX);
    r->due_ms = clock_mono_ms() + LOAD_MS;
    return true;
}

/* The message of a line of the log, as text or JSON, without its quotes; or the line itself. */
static void read_message(const char *line, size_t len, char why[], size_t size)
{
    static const char text[] = " msg=\"", json[] = "\"msg\":\"", usage[] = "pgcdc-lua: ";
    const char *p = memmem(line, len, text, sizeof text - 1), *end = line + len;
    const char *other = memmem(line, len, json, sizeof json - 1);
    bool is_quoted = p != NULL || other != NULL;
    size_t n = 0;

    if (p != NULL)
        p += sizeof text - 1;
    else if (other != NULL)
        p = other + sizeof json - 1;
    else
        p = line + (len > sizeof usage && memcmp(line, usage, sizeof usage - 1) == 0
                        ? sizeof usage - 1 : 0);
    for (; p < end && n + 1 < size && !(is_quoted && *p == '"'); p++) {
        if (is_quoted && *p == '\\' && p + 1 < end)
            p++;
        why[n++] = *p;
    }
    why[n] = '\0';
}

/* What the child said last, or how it ended. */
static void explain(const struct reload *r, int status, char why[], size_t size)
{
    const char *p = r->said.data, *line = p;
    size_t len = r->said.len;

    why[0] = '\0';
    while (len > 0 && p[len - 1] == '\n')
        len--;
    for (size_t i = 0; i < len; i++)
        line = p[i] == '\n' ? p + i + 1 : line;
    if (len > 0)
        read_message(line, (size_t)(p + len - line), why, size);
    else if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
        snprintf(why, size, "it was not loaded within %d s", LOAD_MS / 1000);
    else
        snprintf(why, size, "the program ended with status %d",
                 WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

/* Reads what there is. True at the end. */
static bool read_said(struct reload *r)
{
    for (;;) {
        char bytes[4096];
        ssize_t n = read(r->fd, bytes, sizeof bytes);

        if (n == 0)
            return true;
        if (n < 0)
            return errno != EAGAIN && errno != EINTR;
        buf_add(&r->said, bytes, (size_t)n);
    }
}

static void close_said(struct reload *r)
{
    if (r->fd >= 0)
        close(r->fd);
    r->fd = -1;
}

static void end(struct reload *r)
{
    close_said(r);
    buf_fini(&r->said);
    *r = (struct reload){ .fd = -1 };
}

enum reload_state reload_look(struct reload *r, char why[], size_t size)
{
    bool is_good;
    int status = 0;

    if (r->pid == 0)
        return RELOAD_NONE;
    if (clock_mono_ms() >= r->due_ms)
        kill(r->pid, SIGKILL);
    if (r->fd >= 0 && read_said(r))
        close_said(r);
    if (waitpid(r->pid, &status, WNOHANG) == 0)
        return RELOAD_RUNS;
    if (r->fd >= 0 && !read_said(r))
        close_said(r); /* what it started may have its end of the pipe */
    is_good = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    if (!is_good)
        explain(r, status, why, size);
    end(r);
    return is_good ? RELOAD_GOOD : RELOAD_BAD;
}

int64_t reload_wait_ms(const struct reload *r)
{
    if (r->pid == 0)
        return -1;
    return r->fd < 0 ? TICK_MS : WAIT_MS;
}

void reload_fini(struct reload *r)
{
    if (r->pid == 0)
        return;
    kill(r->pid, SIGKILL);
    while (waitpid(r->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    end(r);
}
