/* ctl.c -- `pgcdc-lua ctl`: asks a running program, over the socket beside its state file.
 * SPDX-License-Identifier: MIT */
#include "cli/ctl.h"

#include "base/clock.h"
#include "base/text.h"
#include "cli/ctl_show.h"
#include "cli/default_state.h"
#include "serve/control.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ANSWER_MS 60000   /* the program has so long for a line; it takes three seconds at most */
#define RELOADED_MS 60000 /* and so long to start anew */
#define TICK_MS 20
#define ANSWER_MAX ((size_t)64 << 20)

/* ---- words ---- */

struct ctl_command {
    const char *name, *words, *help;
    const char *bare[2]; /* the names of words that may stand there without them; NULL: none */
};

static const struct ctl_command commands[] = {
    { "status", "", "how it is", { NULL } },
    { "top", "[interval=1] [count=N]", "the same again and again", { NULL } },
    { "pause", "[SOURCE]", "begin no more polls, also after a restart", { "source" } },
    { "resume", "[SOURCE]", "begin them again", { "source" } },
    { "poll", "[SOURCE]", "poll now, whatever the interval", { "source" } },
    { "snapshot", "[SOURCE] [where=SQL]", "read rows again, while polls go on", { "source" } },
    { "tap", "[SOURCE] [count=10]", "show the next changes, as they are delivered", { "source" } },
    { "skip", "[SOURCE]", "give up the change that is tried again and again", { "source" } },
    { "dead-letters", "[ACTION] [SOURCE] [letter=]", "list, show, replay or purge them",
      { "action", "source" } },
    { "lead", "", "a standby takes over; a leader hands over to one", { NULL } },
    { "reload", "", "load the script anew, if it can be loaded", { NULL } },
    { "stop", "", "finish the change in hand, save, end", { NULL } },
    { "log-level", "[LEVEL]", "error, warn, info or debug; or say which it is", { "level" } },
};

#define N_COMMANDS (sizeof commands / sizeof *commands)

static const struct ctl_command *find_command(const char *name)
{
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

void ctl_help(void)
{
    puts("Usage: pgcdc-lua ctl [-s FILE | -d CONNINFO] [SCRIPT [NAME=VALUE]...] COMMAND ...\n"
         "Ask a program that runs. SCRIPT and its words are those that it was started with; none\n"
         "are needed where only one runs, or with -s, its state file.\n"
         "\n"
         "      --json     print the answer as JSON\n");
    for (size_t i = 0; i < N_COMMANDS; i++)
        printf("  %-12s %-27s %s\n", commands[i].name, commands[i].words, commands[i].help);
    puts("\nSOURCE is the name of a source; a script with one needs none.\n"
         "Exit status: 0 done, 1 not possible, or nobody answers, 2 usage.");
}

static bool fail_command(const char *word, struct err *e)
{
    const char *names[N_COMMANDS], *near;

    for (size_t i = 0; i < N_COMMANDS; i++)
        names[i] = commands[i].name;
    near = word != NULL ? text_nearest(word, names, N_COMMANDS) : NULL;
    if (near != NULL)
        return err_set(e, ERR_USAGE, "ctl has no command %s; did you mean %s?", word, near);
    return err_set(e, ERR_USAGE, "which command? `pgcdc-lua ctl --help` lists them");
}

bool ctl_read(struct ctl *ctl, char *const *words, size_t n, struct err *e)
{
    const struct ctl_command *c;
    size_t i = 0, n_bare = 0;

    if (n > 0 && find_command(words[0]) == NULL) {
        ctl->script = words[i++];
        ctl->words = words + 1;
        while (i < n && strchr(words[i], '=') != NULL)
            i++;
        ctl->n_words = i - 1;
    }
    if (i == n)
        return fail_command(n == 1 ? words[0] : NULL, e);
    c = find_command(words[i]);
    if (c == NULL)
        return fail_command(words[i], e);
    ctl->command = c->name;
    ctl->more = words + i + 1;
    ctl->n_more = n - i - 1;
    for (i = 0; i < ctl->n_more; i++) {
        const char *word = ctl->more[i];

        if (strcmp(word, "--json") == 0)
            ctl->as_json = true;
        else if (strchr(word, '=') == NULL && (word[0] == '-' || n_bare == 2 ||
                                               c->bare[n_bare++] == NULL))
            return err_set(e, ERR_USAGE, "ctl %s: it takes no %s", c->name, word);
    }
    return true;
}

/* ---- where the program is ---- */

/* Connects to the socket beside a state file. Returns a descriptor, owned, or -1 with errno. */
static int try_connect(const char *state, struct err *e)
{
    struct control_place place;
    union control_address a;
    int fd, error;

    if (!control_find(&place, state, e)) {
        errno = ENOENT;
        return -1;
    }
    a = control_address(&place);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    error = fd >= 0 && connect(fd, &a.any, sizeof a.local) == 0 ? 0 : errno;
    close(place.folder);
    if (error == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    err_set(e, ERR_SCRIPT, error == ENOENT || error == ECONNREFUSED
                ? "nobody listens at %s: no program runs with this state file%s"
                : "%s: %s", place.path, error == ENOENT || error == ECONNREFUSED
                ? " (-s FILE names another one)" : strerror(error));
    errno = error;
    return -1;
}

static int is_socket(const struct dirent *entry)
{
    size_t len = strlen(entry->d_name);

    return len > 7 && strcmp(entry->d_name + len - 7, ".db.ctl") == 0;
}

/* Finds the state file of the only program that runs with one in the default folder. Owned, or
 * NULL. */
static char *find_only(struct err *e)
{
    struct dirent **entries = NULL;
    struct buf folder, names;
    char *found = NULL;
    size_t n_found = 0;
    int n;

    buf_init(&folder, 4096);
    buf_init(&names, 1500);
    default_state_folder(&folder);
    n = folder.len > 0 ? scandir(folder.data, &entries, is_socket, alphasort) : 0;
    for (int i = 0; i < n; i++) {
        struct buf path;
        struct err ignored;
        int fd;

        entries[i]->d_name[strlen(entries[i]->d_name) - 4] = '\0';
        buf_init(&path, 4096);
        buf_printf(&path, "%s%s", folder.data, entries[i]->d_name);
        fd = buf_ok(&path) ? try_connect(path.data, &ignored) : -1;
        if (fd >= 0) {
            close(fd);
            buf_printf(&names, "%s%.*s", n_found++ > 0 ? ", " : "",
                       (int)strlen(entries[i]->d_name) - 3, entries[i]->d_name);
            free(found);
            found = buf_take(&path);
        }
        buf_fini(&path);
        free(entries[i]);
    }
    free(entries);
    if (n_found != 1) {
        err_set(e, n_found == 0 ? ERR_SCRIPT : ERR_USAGE, n_found == 0
                ? "nobody listens in %s: which program? Name its script, or with -s its state file"
                : "which program? %s run: name its script, or with -s its state file",
                n_found > 0 ? names.data : folder.len > 0 ? folder.data : "the default folder");
        free(found);
        found = NULL;
    }
    buf_fini(&folder);
    buf_fini(&names);
    return found;
}

/* ---- asking ---- */

struct answer {
    int fd;
    struct buf in;
    size_t read; /* of <in>, that were handed out */
};

/* Writes the words that stand after the command; some may lack their names. */
static void put_words(const struct ctl *ctl, struct buf *to)
{
    const struct ctl_command *c = find_command(ctl->command);
    size_t n_bare = 0;

    for (size_t i = 0; i < ctl->n_more; i++) {
        const char *word = ctl->more[i];
        struct buf b;

        if (strcmp(word, "--json") == 0)
            continue;
        buf_init(&b, REQUEST_MAX);
        if (strchr(word, '=') == NULL)
            buf_printf(&b, "%s=", c->bare[n_bare++]);
        buf_puts(&b, word);
        request_put_word(to, b.data != NULL ? b.data : "", b.len);
        buf_fini(&b);
    }
}

static bool send_request(const struct ctl *ctl, const char *command, int fd, struct err *e)
{
    struct buf b;
    bool ok;

    buf_init(&b, REQUEST_MAX);
    request_put(&b, command);
    if (strcmp(command, ctl->command) == 0)
        put_words(ctl, &b);
    request_put_end(&b);
    ok = buf_ok(&b) || err_set(e, ERR_USAGE, "ctl %s: the words are longer than 64 kB", command);
    for (size_t done = 0; ok && done < b.len;) {
        ssize_t n = send(fd, b.data + done, b.len - done, MSG_NOSIGNAL);

        if (n < 0 && errno != EINTR)
            ok = err_set(e, ERR_SCRIPT, "the program has hung up: %s", strerror(errno));
        done += n > 0 ? (size_t)n : 0;
    }
    buf_fini(&b);
    return ok;
}

/* Waits for the next line, without its end; NULL: there is none. Valid until the next call. */
static const char *next_line(struct answer *a, int64_t wait_ms)
{
    int64_t until = clock_mono_ms() + wait_ms;

    for (;;) {
        char *start = a->in.data != NULL ? a->in.data + a->read : NULL;
        char *end = start != NULL ? memchr(start, '\n', a->in.len - a->read) : NULL;
        struct pollfd p = { .fd = a->fd, .events = POLLIN };
        int64_t left = wait_ms < 0 ? 60000 : until - clock_mono_ms();
        char bytes[16384];
        ssize_t n;

        if (end != NULL) {
            *end = '\0';
            a->read = (size_t)(end + 1 - a->in.data);
            return start;
        }
        if (left <= 0 || (poll(&p, 1, (int)left) < 0 && errno != EINTR))
            return NULL;
        if (p.revents == 0)
            continue;
        n = read(a->fd, bytes, sizeof bytes);
        if (n <= 0)
            return NULL;
        if (a->read > 0) { /* what was handed out is not needed any more */
            memmove(a->in.data, a->in.data + a->read, a->in.len - a->read);
            a->in.len -= a->read;
            a->read = 0;
        }
        buf_add(&a->in, bytes, (size_t)n);
        if (!buf_ok(&a->in))
            return NULL;
    }
}

/* Asks once: sends <command>, with the words if it is the one of <ctl>, and reads the first line.
 * The answer is the caller's to close. */
static const char *ask(const struct ctl *ctl, const char *command, const char *state,
                       struct answer *a, struct err *e)
{
    const char *line;

    buf_init(&a->in, ANSWER_MAX);
    a->read = 0;
    a->fd = try_connect(state, e);
    if (a->fd < 0 || !send_request(ctl, command, a->fd, e))
        return NULL;
    line = next_line(a, ANSWER_MS);
    if (line == NULL)
        err_set(e, ERR_SCRIPT, "the program has given no answer: it ends, perhaps");
    return line;
}

static void close_answer(struct answer *a)
{
    if (a->fd >= 0)
        close(a->fd);
    buf_fini(&a->in);
}

/* ---- commands ---- */

/* The program starts anew: waits until it listens again, as another run than <run>. */
static bool wait_reloaded(const struct ctl *ctl, const char *state, const char *run, struct err *e)
{
    int64_t until = clock_mono_ms() + RELOADED_MS;

    while (clock_mono_ms() < until) {
        struct answer a;
        const char *line = ask(ctl, "ping", state, &a, e);
        bool is_new = line != NULL && !ctl_show_is_run(line, run);

        close_answer(&a);
        if (is_new)
            return true;
        poll(NULL, 0, TICK_MS);
    }
    return err_set(e, ERR_SCRIPT, "it has not come back within %d s: its log says why",
                   RELOADED_MS / 1000);
}

/* Prints the answer to a command; further lines are changes. */
static bool show(const struct ctl *ctl, const char *state, int *status, struct err *e)
{
    struct answer a;
    const char *line = ask(ctl, ctl->command, state, &a, e);
    char *run = NULL;
    bool is_ok = false, ok = line != NULL && ctl_show_answer(line, ctl->as_json, &is_ok, &run, e);

    *status = is_ok ? 0 : 1;
    while (ok && is_ok && strcmp(ctl->command, "tap") == 0 &&
           (line = next_line(&a, -1)) != NULL && puts(line) >= 0 && fflush(stdout) == 0)
        ;
    close_answer(&a);
    if (ok && is_ok && strcmp(ctl->command, "reload") == 0 && run != NULL)
        ok = wait_reloaded(ctl, state, run, e);
    free(run);
    return ok;
}

/* The value of a word of top. */
static double number(const struct ctl *ctl, const char *name, double otherwise)
{
    size_t len = strlen(name);

    for (size_t i = 0; i < ctl->n_more; i++)
        if (strncmp(ctl->more[i], name, len) == 0 && ctl->more[i][len] == '=')
            return strtod(ctl->more[i] + len + 1, NULL);
    return otherwise;
}

static bool top(const struct ctl *ctl, const char *state, struct err *e)
{
    double interval = number(ctl, "interval", 1), count = number(ctl, "count", -1);
    struct ctl_show_top *t = ctl_show_top_new(ctl->as_json);
    bool ok = t != NULL || err_memory(e);

    if (ok && !(interval >= 0.1 && interval <= 3600))
        ok = err_set(e, ERR_USAGE, "ctl top: interval= takes seconds, from 0.1 to 3600");
    for (double i = 1; ok; i++) {
        struct answer a;
        const char *line = ask(ctl, "status", state, &a, e);
        bool goes_on = ctl_show_top(t, line, line == NULL ? e->msg : NULL);

        ok = i > 1 || line != NULL; /* it may come back */
        close_answer(&a);
        if (!goes_on || (count > 0 && i >= count) || !ctl_show_top_wait(t, interval))
            break;
    }
    ctl_show_top_free(t);
    return ok;
}

bool ctl_run(const struct ctl *ctl, const char *state, int *status, struct err *e)
{
    char *only = state == NULL ? find_only(e) : NULL;
    bool ok;

    *status = 0;
    state = state != NULL ? state : only;
    if (state == NULL)
        ok = false;
    else if (strcmp(ctl->command, "top") == 0)
        ok = top(ctl, state, e);
    else
        ok = show(ctl, state, status, e);
    free(only);
    if (!ok && e->code != ERR_USAGE)
        e->code = ERR_SCRIPT; /* for the status of the exit */
    if (!ok && ctl->as_json && e->code != ERR_USAGE)
        ctl_show_error(e->msg);
    return ok;
}
