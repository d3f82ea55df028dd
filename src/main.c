/* main.c -- signals, exit status.
 * SPDX-License-Identifier: MIT */
#include "cli.h"
#include "host/host.h"
#include "host/output.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <unistd.h>

#define BIG_BLOCK (1 << 20) /* bytes, as is */
#define KEPT (4 << 20)

static struct news_command command;
static atomic_bool is_sent_by_member; /* a stop was asked for by the member of a worker */
static struct member member;
static struct news news = { .fd = -1, .stop_fd = -1 }; /* signals may arrive in any thread */

static void ring(int fd)
{
    uint64_t one = 1;

    if (write(fd, &one, sizeof one) < 0) {
        /* a full counter is readable as well */
    }
}

/* The first one asks the program to stop, the second one, of either kind, ends it at once. (Where
 * it is to be run anew it stops already, and now for good.) A script that stops by itself is as
 * good as the first one. */
static void on_signal(int sig)
{
    static atomic_bool is_second;
    int saved = errno;
    bool stops = atomic_exchange(&news.stop, NEWS_STOP) == NEWS_STOP;

    if (atomic_exchange(&is_second, true) || (stops && !atomic_load(&is_sent_by_member))) {
        signal(sig, SIG_DFL);
        raise(sig); /* is delivered when we return */
        return;
    }
    ring(news.stop_fd);
    errno = saved;
}

/* SIGUSR2, to a worker: see host/member.h. */
static void on_member(int sig)
{
    int saved = errno;

    (void)sig;
    atomic_store(&is_sent_by_member, true);
    atomic_store(&news.stop, NEWS_STOP);
    ring(news.stop_fd);
    errno = saved;
}

/* SIGHUP and SIGUSR1. */
static void on_news(int sig)
{
    int saved = errno;

    atomic_store(sig == SIGHUP ? &news.reload : &news.report, true);
    ring(news.fd);
    errno = saved;
}

/* Signals that a program which is run anew must not miss between the two. */
static void block_signals(int how)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGUSR2);
    sigprocmask(how, &set, NULL);
}

static bool set_signals(struct err *e)
{
    struct sigaction stop = { .sa_handler = on_signal };
    struct sigaction ignore = { .sa_handler = SIG_IGN }, tell = { .sa_handler = on_news }, was;
    struct sigaction by_member = { .sa_handler = on_member };

    news.stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    news.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (news.stop_fd < 0 || news.fd < 0)
        return err_set(e, ERR_INTERNAL, "eventfd: %s", strerror(errno));
    sigaction(SIGINT, &stop, NULL);
    sigaction(SIGTERM, &stop, NULL);
    sigaction(SIGPIPE, &ignore, NULL);
    sigaction(SIGXFSZ, &ignore, NULL); /* a write past the limit fails, and is reported */
    sigaction(SIGUSR1, &tell, NULL);
    if (member.pid != 0)
        sigaction(SIGUSR2, &by_member, NULL);
    if (sigaction(SIGHUP, NULL, &was) == 0 && was.sa_handler != SIG_IGN) /* as by nohup */
        sigaction(SIGHUP, &tell, NULL);
    block_signals(SIG_UNBLOCK);
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

/* ---- running anew ---- */

static size_t count_texts(char *const *texts)
{
    size_t n = 0;

    while (texts[n] != NULL)
        n++;
    return n;
}

/* Copies a list of texts that NULL ends, but for those among the first <n_options> that say
 * --reset. Owned, or NULL. */
static char **copy_texts(char *const *texts, size_t n_options)
{
    size_t n = count_texts(texts), len;
    char **all;

    all = calloc(n + 1, sizeof *all);
    for (size_t i = 0, to = 0; all != NULL && i < n; i++) {
        len = strcspn(texts[i], "=");
        if (i > 0 && i < n_options && len > 4 && strncmp(texts[i], "--reset", len) == 0)
            continue;
        if ((all[to++] = strdup(texts[i])) == NULL)
            return NULL;
    }
    return all;
}

/* Remembers how the program was started, before anything changes the environment. */
static bool keep_command(struct err *e)
{
    char exe[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);

    if (n <= 0)
        return err_set(e, ERR_INTERNAL, "cannot find my own program file: %s", strerror(errno));
    exe[n] = '\0';
    command.exe = strdup(exe);
    command.environment = copy_texts(environ, 0);
    return (command.exe != NULL && command.environment != NULL) || err_memory(e);
}

/* The same process becomes the program as its file is now. Returns only if that fails. */
static void run_anew(struct cli *c)
{
    block_signals(SIG_BLOCK);
    member_keep(&member, true);
    execve(command.exe, command.argv, command.environment);
    log_text(&c->log, LOG_ERROR, "the program cannot be run anew", "error", strerror(errno));
}

/* Does what a run needs, once the command line was read. */
static bool prepare(struct cli *c, char **argv, bool stdout_is_closed, struct err *e)
{
    if (c->is_ctl)
        return true;
    command.argv = copy_texts(argv, (size_t)c->n_options);
    if (command.argv == NULL)
        return err_memory(e);
    command.n_options = count_texts(command.argv) - count_texts(argv + c->n_options);
    if (c->host.mode != READER_CHECK && !c->host.is_graph && !member_follow(&member, e))
        return false;
    if (!output_open(stdout_is_closed, e) || !set_signals(e))
        return false;
    c->host.script.stop = &news.stop;
    c->host.script.stop_fd = news.stop_fd;
    c->host.news = &news;
    c->host.member = &member;
    c->host.script.is_worker = member.pid != 0;
    c->host.script.partition = member.partition;
    c->log.worker = member.pid != 0 ? c->host.script.pipeline : NULL;
    c->host.command = &command;
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
    bool ok, stdout_is_closed, is_anew = false;
    int status = 0;

    shut_memory();
    tune_malloc();
    fill_standard_descriptors(&stdout_is_closed);
    cli_init(&cli);
    ok = keep_command(&e) && member_take(&member, &e) && cli_read(&cli, argc, argv, &e) &&
         (cli.is_answered ? output_flush(NULL, &e) : prepare(&cli, argv, stdout_is_closed, &e));
    if (!ok) {
        report(&cli, &e);
    } else if (cli.is_ctl && !cli.is_answered) {
        ok = ctl_run(&cli.ctl, cli.host.state, &status, &e);
        if (!ok)
            log_usage(e.msg);
    } else if (!cli.is_answered) {
        if (cli.is_old_state)
            log_text(&cli.log, LOG_INFO, "using the state file of an earlier version, which has a "
                     "position of these tables; another one is named by --state", "path",
                     cli.host.state);
        ok = host_run(&cli.host, &status, &e);
        if (!ok && e.code == ERR_USAGE)
            report(&cli, &e); /* host_run has logged all others */
        if (ok && news.stop == NEWS_RELOAD)
            is_anew = true;
    }
    if (is_anew)
        run_anew(&cli);
    cli_fini(&cli);
    if (is_anew)
        return err_exit_status(ERR_INTERNAL);
    return ok ? status : err_exit_status(e.code);
}
