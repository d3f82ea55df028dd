/* member.c -- what a worker tells the program that has started it, a member of a group of Kafka.
 * SPDX-License-Identifier: MIT */
#include "host/member.h"

#include "base/clock.h"
#include "capture/position_text.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define VARIABLE "PGCDC_MEMBER"
#define TELL_MS 500    /* between two messages with positions */
#define TEXT_MAX 32768 /* bytes of one */

bool member_take(struct member *m, struct err *e)
{
    const char *text = getenv(VARIABLE);
    long pid;
    int end = -1;

    *m = (struct member){ .fd = -1 };
    buf_init(&m->text, TEXT_MAX);
    if (text == NULL)
        return true;
    if (sscanf(text, "%d %ld %d%n", &m->partition, &pid, &m->fd, &end) != 3 || end < 0 ||
        text[end] != '\0' || m->partition < 0 || pid <= 0 || m->fd <= STDERR_FILENO) {
        m->fd = -1;
        return err_set(e, ERR_USAGE, "$" VARIABLE " is for what this program starts itself");
    }
    m->pid = (pid_t)pid;
    unsetenv(VARIABLE);
    member_keep(m, false);
    return true;
}

bool member_follow(const struct member *m, struct err *e)
{
    if (m->pid == 0)
        return true;
    prctl(PR_SET_PDEATHSIG, SIGUSR2, 0, 0, 0);
    return getppid() == m->pid || /* else it had ended before */
           err_set(e, ERR_STOPPED, "the program that started this worker has ended");
}

void member_keep(const struct member *m, bool is_kept)
{
    if (m->fd >= 0)
        fcntl(m->fd, F_SETFD, is_kept ? 0 : FD_CLOEXEC);
}

/* What finds no room is not told. */
static void tell(const struct member *m, char what, const char *text)
{
    struct iovec parts[] = { { &what, 1 }, { (void *)text, strlen(text) } };
    struct msghdr message = { .msg_iov = parts, .msg_iovlen = 2 };

    if (m->fd >= 0 && sendmsg(m->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
        /* a newer one comes */
    }
}

static void tell_positions(struct member *m)
{
    m->told_ms = clock_mono_ms();
    tell(m, 'P', m->text.data);
    buf_clear(&m->text);
}

void member_began(struct member *m, const char *fed)
{
    if (m->pid == 0 || fed == NULL)
        return;
    if (m->text.len > 0 && m->text.len + strlen(fed) + 1 > TEXT_MAX)
        tell_positions(m);
    buf_puts(&m->text, fed);
    if (!buf_ok(&m->text))
        buf_clear(&m->text); /* a newer one comes, as below */
}

void member_saved(struct member *m, const char *text)
{
    char *fed = m->pid != 0 ? position_text_fed(text) : NULL;

    member_began(m, fed);
    free(fed);
}

void member_ready(struct member *m)
{
    tell(m, 'R', "");
}

void member_turn(struct member *m)
{
    if (m->text.len > 0 && clock_mono_ms() >= m->told_ms + TELL_MS)
        tell_positions(m);
}

void member_end(struct member *m, int status)
{
    char text[16];

    if (m->text.len > 0)
        tell_positions(m);
    buf_fini(&m->text);
    snprintf(text, sizeof text, "%d", status);
    if (status >= 0)
        tell(m, 'E', text);
}
