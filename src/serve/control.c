/* control.c -- takes commands for the running program: `pgcdc-lua ctl`, and POST /ctl/COMMAND.
 * SPDX-License-Identifier: MIT */
#include "serve/control.h"

#include "base/clock.h"
#include "serve/status.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define ENDING ".ctl"
#define MOST_CLIENTS 64      /* others wait, or take the place of one that is silent */
#define IDLE_MS 10000        /* a client that sends no request is cut off */
#define HOST_MS 2000         /* the host has so long for an answer, */
#define FIGURES_MS 300       /* and for new figures */
#define OUT_MAX ((size_t)8 << 20) /* bytes that wait for a client */
#define BACKLOG 128

/* Who asks: over the socket, or a caller of control_call (fd -1). */
struct client {
    uint64_t id;         /* 0: the place is free */
    int fd;
    struct buf in, out;
    size_t sent;
    int64_t due_ms;      /* an answer, or the request, is overdue then; 0: nothing is */
    bool is_asking;      /* the host has its request, and has not answered */
    bool is_status;      /* it is answered from the figures */
    bool is_over;        /* nothing follows what is in <out> */
    bool is_failed;      /* it is to be cut off */
};

struct control {
    struct control_options o;
    struct control_place place;
    struct stat made;    /* of the socket */
    int fd, wake_fd;
    pthread_t thread;
    bool has_thread;
    pthread_mutex_t mutex; /* of all that follows */
    pthread_cond_t changed; /* <out> of a caller */
    struct client clients[MOST_CLIENTS];
    uint64_t n_clients;  /* that there ever were */
    char run[40];
    struct health_options health; /* who may ask here may read the log as well */
    struct request *first, *last; /* for the host */
    bool is_stopping;
};

/* ---- places ---- */

bool control_find(struct control_place *p, const char *state, struct err *e)
{
    const char *slash = strrchr(state, '/'), *name = slash != NULL ? slash + 1 : state;
    char folder[PATH_MAX];
    size_t len = (size_t)(name - state);

    p->folder = -1;
    if (len >= sizeof folder ||
        snprintf(p->path, sizeof p->path, "%s" ENDING, state) >= (int)sizeof p->path)
        return err_set(e, ERR_STATE, "%.100s...: the path is too long", state);
    memcpy(folder, state, len);
    folder[len] = '\0';
    p->folder = open(len > 0 ? folder : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (p->folder < 0)
        return err_set(e, ERR_STATE, "%s: %s", len > 0 ? folder : ".", strerror(errno));
    if (snprintf(p->near, sizeof p->near, "/proc/self/fd/%d/%s" ENDING, p->folder, name) <
        (int)sizeof p->near)
        return true;
    close(p->folder);
    p->folder = -1;
    return err_set(e, ERR_STATE, "%s: the name of the state file is too long for a socket beside "
                   "it: choose one of at most 70 bytes with --state", name);
}

union control_address control_address(const struct control_place *p)
{
    union control_address a = { .local = { .sun_family = AF_UNIX } };

    memcpy(a.local.sun_path, p->near, sizeof a.local.sun_path);
    return a;
}

/* True if a process listens on the socket. */
static bool is_answered(const union control_address *a)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool ok = fd >= 0 && (connect(fd, &a->any, sizeof a->local) == 0 || errno == EAGAIN);

    if (fd >= 0)
        close(fd);
    return ok;
}

static bool listen_there(struct control *c, struct err *e)
{
    union control_address a = control_address(&c->place);
    struct stat st;

    if (c->o.is_shared && is_answered(&a))
        return err_set(e, ERR_STATE, "another process of this pipeline and user is reached at %s",
                       c->place.path);

    c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (c->fd < 0)
        return err_set(e, ERR_INTERNAL, "socket: %s", strerror(errno));
    /* one that is there was left by a program that was killed: the state file is ours */
    if (lstat(c->place.near, &st) == 0 && S_ISSOCK(st.st_mode))
        unlink(c->place.near);
    fchmod(c->fd, 0600); /* before it has a name: nobody else can connect at any time */
    if (bind(c->fd, &a.any, sizeof a.local) != 0 ||
        chmod(c->place.near, 0600) != 0 || lstat(c->place.near, &c->made) != 0 ||
        listen(c->fd, BACKLOG) != 0)
        return err_set(e, ERR_STATE, "%s: %s", c->place.path, strerror(errno));
    return true;
}

static void remove_socket(const struct control *c)
{
    struct stat st;

    if (c->made.st_ino != 0 && lstat(c->place.near, &st) == 0 && st.st_ino == c->made.st_ino &&
        st.st_dev == c->made.st_dev)
        unlink(c->place.near);
}

/* ---- clients; under the mutex ---- */

static struct client *find_client(struct control *c, uint64_t id)
{
    for (size_t i = 0; i < MOST_CLIENTS; i++)
        if (c->clients[i].id == id)
            return &c->clients[i];
    return NULL;
}

/* NULL: all places are taken. */
static struct client *add_client(struct control *c, int fd)
{
    struct client *k = find_client(c, 0);

    if (k == NULL)
        return NULL;
    *k = (struct client){ .id = ++c->n_clients, .fd = fd, .due_ms = clock_mono_ms() + IDLE_MS };
    buf_init(&k->in, REQUEST_MAX + 1);
    buf_init(&k->out, OUT_MAX);
    return k;
}

static void drop_client(struct client *k)
{
    if (k->fd >= 0)
        close(k->fd);
    buf_fini(&k->in);
    buf_fini(&k->out);
    *k = (struct client){ .id = 0 };
}

static void put_answer(struct control *c, struct client *k, bool is_ok, const char *text)
{
    struct json_text j;

    request_answer(&j, &k->out, c->o.version, is_ok, text);
    request_end(&j);
    k->is_over = true;
    k->due_ms = 0;
}

/* Answers from the newest figures. */
static void put_status(struct control *c, struct client *k)
{
    struct history history = { 0 };
    struct figures figures;
    struct health health;
    int64_t now_us = clock_wall_us(), now_ms = clock_mono_ms();
    struct json_text j;
    struct buf text;

    k->is_over = true;
    k->due_ms = 0;
    figures_watch(c->o.board);
    if (!figures_copy(c->o.board, &figures))
        return;
    if (health_find(&health, &figures, c->o.health, now_us, now_ms)) {
        const struct status status = { &figures, &health, c->o.health, &history,
                                       figures.began_us, now_us, now_ms };

        buf_init(&text, OUT_MAX);
        status_put(&text, &status);
        while (text.len > 0 && text.data[text.len - 1] == '\n')
            text.data[--text.len] = '\0';
        request_answer(&j, &k->out, c->o.version, true, NULL);
        json_text_raw(&j, "status", buf_ok(&text) ? text.data : NULL);
        request_end(&j);
        buf_fini(&text);
        health_fini(&health);
    }
    figures_fini(&figures);
}

static void put_stop(struct control *c, struct client *k)
{
    uint64_t one = 1;
    bool was_stopping = atomic_exchange(c->o.bells.stop, 1) != 0;

    if (!was_stopping && write(c->o.bells.stop_fd, &one, sizeof one) < 0) {
        /* a full counter is readable as well */
    }
    put_answer(c, k, true, was_stopping ? "it is stopping already" : "it stops");
}

/* Somebody wants to know which run it is. */
static void put_ping(struct control *c, struct client *k)
{
    struct json_text j;

    request_answer(&j, &k->out, c->o.version, true, "");
    json_text_string(&j, "run", c->run);
    request_end(&j);
    k->is_over = true;
    k->due_ms = 0;
}

/* The host has not answered in time. */
static void put_pending(struct control *c, struct client *k)
{
    struct figures figures;
    struct json_text j;
    struct buf text;

    buf_init(&text, 4096);
    buf_puts(&text, "it will be done as soon as the program comes to it");
    figures_watch(c->o.board);
    if (figures_copy(c->o.board, &figures)) {
        buf_puts(&text, "; now it ");
        health_put_work(&figures, &text);
        buf_printf(&text, ", for %.0f s", (double)figures.work_ms / 1000);
        figures_fini(&figures);
    }
    request_answer(&j, &k->out, c->o.version, true, buf_ok(&text) ? text.data : NULL);
    json_text_bool(&j, "pending", true);
    request_end(&j);
    buf_fini(&text);
    k->is_over = true;
    k->due_ms = 0;
}

/* A request is whole: answers it, or gives it to the host. */
static void take_request(struct control *c, struct client *k, struct request *r)
{
    uint64_t one = 1;

    r->client = k->id;
    k->is_status = strcmp(r->command, "status") == 0;
    if (strcmp(r->command, "stop") == 0 || strcmp(r->command, "ping") == 0) {
        if (strcmp(r->command, "stop") == 0)
            put_stop(c, k);
        else
            put_ping(c, k);
        request_free(r);
        return;
    }
    if (k->is_status)
        figures_ask(c->o.board);
    k->is_asking = true;
    k->due_ms = strcmp(r->command, "tap") == 0 /* it waits for changes as well */
                    ? 0 : clock_mono_ms() + (k->is_status ? FIGURES_MS : HOST_MS);
    r->next = NULL;
    if (c->last != NULL)
        c->last->next = r;
    else
        c->first = r;
    c->last = r;
    if (write(c->o.bells.news_fd, &one, sizeof one) < 0) {
        /* as above */
    }
}

/* What a client waits for is overdue. */
static void give_up_waiting(struct control *c, struct client *k)
{
    if (!k->is_asking)
        k->is_failed = true; /* it sent no request */
    else if (k->is_status)
        put_status(c, k);
    else
        put_pending(c, k);
    k->is_asking = false;
}

/* ---- the socket ---- */

static void read_client(struct control *c, struct client *k)
{
    struct request *r;
    const char *why;
    char *to = buf_reserve(&k->in, REQUEST_MAX + 1 - k->in.len);
    ssize_t n = to != NULL ? read(k->fd, to, REQUEST_MAX + 1 - k->in.len) : 0;

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0 || k->is_asking || k->is_over || k->out.len > 0) {
        k->is_failed = n <= 0 && !k->is_over;
        return; /* it has hung up; or it says more than it should, which nobody reads */
    }
    k->in.len += (size_t)n;
    switch (request_look(k->in.data, k->in.len, &why)) {
    case REQUEST_PART:
        break;
    case REQUEST_WRONG:
        put_answer(c, k, false, why);
        break;
    case REQUEST_WHOLE:
        r = request_new(&k->in);
        if (r != NULL)
            take_request(c, k, r);
        else
            k->is_failed = true;
    }
}

static void write_client(struct client *k)
{
    ssize_t n = send(k->fd, k->out.data + k->sent, k->out.len - k->sent, MSG_NOSIGNAL);

    if (n < 0) {
        k->is_failed = errno != EAGAIN && errno != EINTR;
        return;
    }
    k->sent += (size_t)n;
    if (k->sent < k->out.len)
        return;
    buf_clear(&k->out);
    k->sent = 0;
}

/* Who has connected and sent no request, and did so before all others of that kind; or NULL. */
static struct client *find_silent(struct control *c)
{
    struct client *oldest = NULL;

    for (size_t i = 0; i < MOST_CLIENTS; i++) {
        struct client *k = &c->clients[i];

        if (k->id != 0 && k->fd >= 0 && !k->is_asking && !k->is_over && k->due_ms != 0 &&
            (oldest == NULL || k->id < oldest->id))
            oldest = k;
    }
    return oldest;
}

/* Where all places are taken, a client that is silent makes room. */
static void accept_clients(struct control *c)
{
    for (int n = 0; n < BACKLOG; n++) {
        struct client *silent = find_client(c, 0) == NULL ? find_silent(c) : NULL;
        int fd = accept4(c->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd < 0)
            return;
        if (silent != NULL)
            drop_client(silent);
        if (add_client(c, fd) == NULL)
            close(fd);
    }
}

/* Looks after all clients; <fds> has what poll() said of them. */
static void serve_clients(struct control *c, const struct pollfd *fds)
{
    int64_t now = clock_mono_ms();

    for (size_t i = 0; i < MOST_CLIENTS; i++) {
        struct client *k = &c->clients[i];

        if (k->id == 0)
            continue;
        if (k->fd >= 0 && fds[i].fd == k->fd && fds[i].revents != 0)
            read_client(c, k);
        if (k->due_ms != 0 && now >= k->due_ms) {
            k->due_ms = 0;
            give_up_waiting(c, k);
            pthread_cond_broadcast(&c->changed);
        }
        if (k->fd < 0)
            continue;
        if (k->out.len > k->sent && !k->is_failed)
            write_client(k);
        if (k->is_failed || !buf_ok(&k->out) || (k->is_over && k->out.len == 0))
            drop_client(k);
    }
}

/* Fills <fds>. Returns how long to wait. */
static int prepare(struct control *c, struct pollfd *fds)
{
    int64_t now = clock_mono_ms(), wait = 60000;

    for (size_t i = 0; i < MOST_CLIENTS; i++) {
        const struct client *k = &c->clients[i];

        fds[i] = (struct pollfd){ .fd = k->id != 0 ? k->fd : -1, .events = POLLIN };
        if (k->out.len > k->sent)
            fds[i].events |= POLLOUT;
        if (k->id != 0 && k->due_ms != 0 && k->due_ms - now < wait)
            wait = k->due_ms - now;
    }
    fds[MOST_CLIENTS] = (struct pollfd){
        .fd = find_client(c, 0) != NULL || find_silent(c) != NULL ? c->fd : -1, .events = POLLIN };
    fds[MOST_CLIENTS + 1] = (struct pollfd){ .fd = c->wake_fd, .events = POLLIN };
    return wait > 0 ? (int)wait : 0;
}

static void *run_thread(void *arg)
{
    struct pollfd fds[MOST_CLIENTS + 2];
    struct control *c = arg;
    uint64_t n;

    pthread_setname_np(pthread_self(), "control");
    pthread_mutex_lock(&c->mutex);
    while (!c->is_stopping) {
        int wait = prepare(c, fds);

        pthread_mutex_unlock(&c->mutex);
        poll(fds, MOST_CLIENTS + 2, wait);
        pthread_mutex_lock(&c->mutex);
        if (fds[MOST_CLIENTS + 1].revents != 0 && read(c->wake_fd, &n, sizeof n) < 0)
            continue;
        serve_clients(c, fds);
        if (fds[MOST_CLIENTS].revents != 0)
            accept_clients(c);
    }
    pthread_mutex_unlock(&c->mutex);
    return NULL;
}

const char *control_run(const struct control *c)
{
    return c->run;
}

/* ---- the host's side ---- */

struct request *control_take(struct control *c)
{
    struct request *r;

    pthread_mutex_lock(&c->mutex);
    r = c->first;
    if (r != NULL) {
        c->first = r->next;
        c->last = c->first != NULL ? c->last : NULL;
    }
    pthread_mutex_unlock(&c->mutex);
    return r;
}

static void wake(struct control *c)
{
    uint64_t one = 1;

    if (write(c->wake_fd, &one, sizeof one) < 0) {
        /* a full counter is readable as well */
    }
}

bool control_send(struct control *c, uint64_t client, const char *bytes, size_t len, bool is_over)
{
    struct client *k;
    bool ok;

    pthread_mutex_lock(&c->mutex);
    k = find_client(c, client);
    ok = k != NULL && !k->is_over && !k->is_failed;
    if (ok) {
        k->is_asking = false;
        k->due_ms = 0;
        k->is_over = is_over;
        if (k->is_status)
            put_status(c, k);
        else
            buf_add(&k->out, bytes, len);
        ok = buf_ok(&k->out);
        pthread_cond_broadcast(&c->changed);
        wake(c);
    }
    pthread_mutex_unlock(&c->mutex);
    return ok;
}

void control_call(struct control *c, struct request *r, struct buf *answer)
{
    struct client *k;

    pthread_mutex_lock(&c->mutex);
    k = add_client(c, -1);
    if (k == NULL) {
        request_free(r);
    } else {
        take_request(c, k, r);
        wake(c); /* which looks when the answer is overdue */
        while (k->out.len == 0 && !k->is_over && !k->is_failed && !c->is_stopping)
            pthread_cond_wait(&c->changed, &c->mutex);
        buf_add(answer, k->out.data != NULL ? k->out.data : "", k->out.len);
        drop_client(k);
    }
    pthread_mutex_unlock(&c->mutex);
}

/* ---- birth and death ---- */

struct control *control_new(const struct control_options *o, struct err *e)
{
    struct control *c = calloc(1, sizeof *c);
    int rc;

    if (c == NULL) {
        err_memory(e);
        return NULL;
    }
    c->o = *o;
    c->fd = -1;
    c->health = *o->health;
    c->health.shows_rows = true;
    c->o.health = &c->health;
    snprintf(c->run, sizeof c->run, "%d/%lld", (int)getpid(), (long long)clock_wall_us());
    pthread_mutex_init(&c->mutex, NULL);
    pthread_cond_init(&c->changed, NULL);
    c->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (!control_find(&c->place, o->state, e) || !listen_there(c, e)) {
        control_free(c);
        return NULL;
    }
    rc = c->wake_fd < 0 ? errno : pthread_create(&c->thread, NULL, run_thread, c);
    c->has_thread = rc == 0;
    if (rc == 0)
        return c;
    err_set(e, ERR_INTERNAL, "cannot start a thread: %s", strerror(rc));
    control_free(c);
    return NULL;
}

void control_free(struct control *c)
{
    if (c == NULL)
        return;
    if (c->has_thread) {
        pthread_mutex_lock(&c->mutex);
        c->is_stopping = true;
        pthread_cond_broadcast(&c->changed);
        pthread_mutex_unlock(&c->mutex);
        wake(c);
        pthread_join(c->thread, NULL);
    }
    if (c->fd >= 0)
        remove_socket(c);
    for (size_t i = 0; i < MOST_CLIENTS; i++)
        if (c->clients[i].id != 0)
            drop_client(&c->clients[i]);
    for (struct request *r; (r = control_take(c)) != NULL;)
        request_free(r);
    if (c->fd >= 0)
        close(c->fd);
    if (c->place.folder >= 0)
        close(c->place.folder);
    if (c->wake_fd >= 0)
        close(c->wake_fd);
    pthread_cond_destroy(&c->changed);
    pthread_mutex_destroy(&c->mutex);
    free(c);
}
