/* main.c -- signals, exit status.
 * SPDX-License-Identifier: MIT */
#include "cli.h"
#include "host/host.h"
#include "host/output.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <unistd.h>

#define BIG_BLOCK (1 << 20) /* bytes, as is */
#define KEPT (4 << 20)

static atomic_int stop_flag; /* signals may arrive in any thread */
static int stop_fd = -1;

/* The first one asks the program to stop, the second one, of either kind, ends it at once. */
static void on_signal(int sig)
{
    uint64_t one = 1;
    int saved = errno;

    if (stop_flag) {
        signal(sig, SIG_DFL);
        raise(sig); /* is delivered when we return */
        return;
    }
    stop_flag = 1;
    if (write(stop_fd, &one, sizeof one) < 0) {
        /* a full counter is readable as well */
    }
    errno = saved;
}

static bool set_signals(struct err *e)
{
    struct sigaction stop = { .sa_handler = on_signal };
    struct sigaction ignore = { .sa_handler = SIG_IGN };

    stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (stop_fd < 0)
        return err_set(e, ERR_INTERNAL, "eventfd: %s", strerror(errno));
    sigaction(SIGINT, &stop, NULL);
    sigaction(SIGTERM, &stop, NULL);
    sigaction(SIGPIPE, &ignore, NULL);
    sigaction(SIGXFSZ, &ignore, NULL); /* a write past the limit fails, and is reported */
    return true;
}

/* The memory holds passwords and rows: so there is no core dump, and no other process of this user
 * can read it. (Not where there is a sanitizer, which reads it.) */
static void shut_memory(void)
{
#ifndef SANITIZED
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
#endif
}

/* Blocks of that size go back to the system when they are freed. By itself glibc takes them from
 * the heap once one of them was freed, and what is free between others is kept. What it keeps of
 * each heap is told as well, or it would be 128 kB: chunks come and go, and pages that were given
 * back have to be cleared and mapped anew. And all threads but this one share one heap. */
static void tune_malloc(void)
{
#ifdef M_MMAP_THRESHOLD
    mallopt(M_MMAP_THRESHOLD, BIG_BLOCK);
    mallopt(M_TRIM_THRESHOLD, KEPT);
    mallopt(M_ARENA_MAX, 2);
#endif
}

/* Opens standard descriptors that are closed, on /dev/null. Else a file that the script opens could
 * get the number of one, and our log lines would go into it. */
static void fill_standard_descriptors(bool *stdout_is_closed)
{
    int fd;

    *stdout_is_closed = fcntl(STDOUT_FILENO, F_GETFD) < 0;
    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
}

/* Does what a run needs, once the command line was read. */
static bool prepare(struct cli *c, bool stdout_is_closed, struct err *e)
{
    if (!output_open(stdout_is_closed, e) || !set_signals(e))
        return false;
    c->host.script.stop = &stop_flag;
    c->host.script.stop_fd = stop_fd;
    return true;
}

static void report(struct cli *c, const struct err *e)
{
    if (e->code == ERR_USAGE)
        log_usage(e->msg);
    else
        log_text(&c->log, LOG_ERROR, e->msg, NULL, NULL);
}

int main(int argc, char **argv)
{
    struct cli cli;
    struct err e = { .code = ERR_NONE };
    bool ok, stdout_is_closed;
    int status = 0;

    shut_memory();
    tune_malloc();
    fill_standard_descriptors(&stdout_is_closed);
    cli_init(&cli);
    ok = cli_read(&cli, argc, argv, &e) &&
         (cli.is_answered ? output_flush(NULL, &e) : prepare(&cli, stdout_is_closed, &e));
    if (!ok) {
        report(&cli, &e);
    } else if (!cli.is_answered) {
        if (cli.is_old_state)
            log_text(&cli.log, LOG_INFO, "using the state file of an earlier version, which has a "
                     "position of these tables; another one is named by --state", "path",
                     cli.host.state);
        ok = host_run(&cli.host, &status, &e);
        if (!ok && e.code == ERR_USAGE)
            report(&cli, &e); /* host_run has logged all others */
    }
    cli_fini(&cli);
    return ok ? status : err_exit_status(e.code);
}
