/* path.c -- files by their paths, so that nobody else leads us elsewhere.
 * SPDX-License-Identifier: MIT */
#include "base/path.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#define MAX_SYMLINKS 40 /* as the kernel */
#define MAX_TRIES 10 /* how often somebody may change a file while we look at it */

/* A path that is being walked. */
struct walk {
    struct path_place *place;
    struct path_why *why;
    char rest[PATH_MAX]; /* what is still to be walked */
    unsigned n_symlinks;
    bool follows_last;
};

/* ---- what is refused ---- */

/* Sets <why> to the system's text for <error>, and errno. Returns false. */
static bool fail(struct path_why *why, int error)
{
    why->is_refused = false;
    snprintf(why->text, sizeof why->text, "%s", strerror(error));
    errno = error;
    return false;
}

static bool refuse(struct path_why *why, const char *fmt, ...) WARN_PRINTF(2, 3);

static bool refuse(struct path_why *why, const char *fmt, ...)
{
    va_list args;

    why->is_refused = true;
    va_start(args, fmt);
    vsnprintf(why->text, sizeof why->text, fmt, args);
    va_end(args);
    errno = EPERM;
    return false;
}

static bool is_trusted(uid_t owner)
{
    return owner == 0 || owner == geteuid();
}

static void put_user(uid_t uid, char *text, size_t size)
{
    struct passwd entry, *found = NULL;
    char buf[1024];

    if (getpwuid_r(uid, &entry, buf, sizeof buf, &found) == 0 && found != NULL)
        snprintf(text, size, "%s", found->pw_name);
    else
        snprintf(text, size, "user %u", (unsigned)uid);
}

static bool refuse_symlink(struct walk *w, const char *name, uid_t owner)
{
    char user[64];

    put_user(owner, user, sizeof user);
    return refuse(w->why, "%.250s/%.100s is a symbolic link of %s, which is not followed: remove "
                  "it, or name a path without it", w->place->real, name, user);
}

/* True, with <why>, if a file that is there may be somebody's trap. */
static bool is_trap(const struct path_place *p, struct path_why *why)
{
    struct stat folder;
    bool is_shared;
    char user[64];

    if ((!S_ISREG(p->st.st_mode) && !S_ISFIFO(p->st.st_mode)) || fstat(p->folder, &folder) < 0)
        return false;
    is_shared = (folder.st_mode & S_IWOTH) != 0 ||
                ((folder.st_mode & S_IWGRP) != 0 && folder.st_gid != getegid());
    if (S_ISREG(p->st.st_mode) && p->st.st_nlink > 1 && (is_shared || !is_trusted(folder.st_uid)))
        return !refuse(why, "has %lu names, in a folder that others may write to, so it may be a "
                       "trap: remove it, or name another file", (unsigned long)p->st.st_nlink);
    if (is_shared && (folder.st_mode & S_ISVTX) != 0 && !is_trusted(p->st.st_uid) &&
        p->st.st_uid != folder.st_uid) {
        put_user(p->st.st_uid, user, sizeof user);
        return !refuse(why, "was made by %s in a folder that all may write to, so it may be a "
                       "trap: remove it, or name another file", user);
    }
    return false;
}

/* ---- the walk ---- */

/* Sets the folder of the walk to /, or to the working directory. */
static bool begin_at(struct walk *w, bool is_root)
{
    int fd = open(is_root ? "/" : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return fail(w->why, errno);
    if (w->place->folder >= 0)
        close(w->place->folder);
    w->place->folder = fd;
    w->place->real[0] = '\0';
    if (is_root || getcwd(w->place->real, PATH_MAX) == NULL || strcmp(w->place->real, "/") == 0)
        w->place->real[0] = '\0';
    return true;
}

/* Puts <text> and a slash before the rest of the path, so that <text> is walked first. */
static bool walk_first(struct walk *w, const char *text)
{
    size_t len = strlen(text), left = strlen(w->rest);

    if (len + 1 + left >= sizeof w->rest)
        return fail(w->why, ENAMETOOLONG);
    memmove(w->rest + len + 1, w->rest, left + 1);
    memcpy(w->rest, text, len);
    w->rest[len] = '/';
    return *text != '/' || begin_at(w, true);
}

/* Takes the next part of the path: *is_last. False if there is none, or (errno) it is too long. */
static bool next_part(struct walk *w, char name[NAME_MAX + 1], bool *is_last)
{
    const char *from = w->rest + strspn(w->rest, "/");
    size_t len = strcspn(from, "/");

    errno = len > NAME_MAX ? ENAMETOOLONG : 0;
    if (len == 0 || len > NAME_MAX)
        return false;
    memcpy(name, from, len);
    name[len] = '\0';
    from += len;
    *is_last = from[strspn(from, "/")] == '\0';
    memmove(w->rest, from, strlen(from) + 1);
    return true;
}

/* Makes <fd>, which it takes, the folder. */
static bool enter(struct walk *w, int fd, const char *name)
{
    char *real = w->place->real;
    size_t len = strlen(real);

    close(w->place->folder);
    w->place->folder = fd;
    if (strcmp(name, "..") == 0)
        real[len > 0 ? strrchr(real, '/') - real : 0] = '\0';
    else if ((size_t)snprintf(real + len, PATH_MAX - len, "/%s", name) >= PATH_MAX - len)
        return fail(w->why, ENAMETOOLONG);
    return true;
}

/* A symbolic link of /proc leads to something that is open, perhaps without a path. */
static bool enter_magic(struct walk *w, const char *name)
{
    char text[PATH_MAX];
    ssize_t n = readlinkat(w->place->folder, name, text, sizeof text - 1);
    int fd = openat(w->place->folder, name, O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (n < 0 || fd < 0 || !enter(w, fd, name))
        return fail(w->why, errno);
    text[n] = '\0';
    if (text[0] == '/')
        memcpy(w->place->real, text, (size_t)n + 1);
    return true;
}

static bool end_magic(struct walk *w, const char *name)
{
    struct path_place *p = w->place;
    ssize_t n = readlinkat(p->folder, name, p->real, PATH_MAX - 1);

    if (n < 0 || fstatat(p->folder, name, &p->st, 0) < 0)
        return fail(w->why, errno);
    p->real[p->real[0] == '/' ? n : 0] = '\0';
    p->is_there = p->is_magic = true;
    snprintf(p->name, sizeof p->name, "%s", name);
    return true;
}

/* Ends the walk at its last part, which is no symbolic link, or one that is not to be followed.
 * <st>: NULL if it is not there. */
static bool end(struct walk *w, const char *name, const struct stat *st)
{
    struct path_place *p = w->place;
    size_t len = strlen(p->real);

    if ((size_t)snprintf(p->real + len, PATH_MAX - len, "/%s", name) >= PATH_MAX - len)
        return fail(w->why, ENAMETOOLONG);
    snprintf(p->name, sizeof p->name, "%s", name);
    p->is_there = st != NULL;
    if (st != NULL)
        p->st = *st;
    return st == NULL || !is_trap(p, w->why);
}

static int open_part(int folder, const char *name)
{
    int fd = openat(folder, name, O_PATH | O_NOFOLLOW | O_DIRECTORY | O_CLOEXEC);

    return fd < 0 && (errno == ENOTDIR || errno == ELOOP)
               ? openat(folder, name, O_PATH | O_NOFOLLOW | O_CLOEXEC) : fd;
}

/* Follows the symbolic link <fd>. */
static bool follow(struct walk *w, int fd, const char *name, uid_t owner, bool is_last)
{
    char text[PATH_MAX];
    struct statfs fs;
    ssize_t n;

    if (fstatfs(fd, &fs) == 0 && fs.f_type == PROC_SUPER_MAGIC)
        return is_last ? end_magic(w, name) : enter_magic(w, name);
    if (!is_trusted(owner))
        return refuse_symlink(w, name, owner);
    n = readlinkat(fd, "", text, sizeof text - 1);
    if (n < 0 || ++w->n_symlinks > MAX_SYMLINKS)
        return fail(w->why, n < 0 ? errno : ELOOP);
    text[n] = '\0';
    return walk_first(w, text);
}

/* One part of the path. *is_over: it was the last one. */
static bool step(struct walk *w, const char *name, bool is_last, bool *is_over)
{
    int fd = open_part(w->place->folder, name);
    struct stat st;
    bool ok;

    *is_over = is_last && strcmp(name, "..") != 0;
    if (fd < 0)
        return *is_over && errno == ENOENT ? end(w, name, NULL) : fail(w->why, errno);
    if (fstat(fd, &st) < 0) {
        ok = fail(w->why, errno);
    } else if (S_ISLNK(st.st_mode) && (!is_last || w->follows_last)) {
        ok = follow(w, fd, name, st.st_uid, is_last);
        *is_over = w->place->is_magic;
    } else if (!*is_over) {
        return enter(w, fd, name);
    } else {
        ok = end(w, name, &st);
    }
    close(fd);
    return ok;
}

/* Ends the walk at the folder itself: the path is "/", or ends with "." or "..", and the folder has
 * no other name there. */
static bool end_here(struct walk *w)
{
    struct path_place *p = w->place;

    if (fstat(p->folder, &p->st) < 0)
        return fail(w->why, errno);
    if (p->real[0] == '\0')
        snprintf(p->real, sizeof p->real, "/");
    snprintf(p->name, sizeof p->name, ".");
    p->is_there = true;
    return true;
}

static bool find(const char *path, bool follows_last, struct path_place *p, struct path_why *why)
{
    struct walk w = { .place = p, .why = why, .follows_last = follows_last };
    char name[NAME_MAX + 1];
    bool is_last, is_over = false, ok;

    *p = (struct path_place){ .folder = -1 };
    if (*path == '\0' || strlen(path) >= sizeof w.rest)
        return fail(why, *path == '\0' ? ENOENT : ENAMETOOLONG);
    snprintf(w.rest, sizeof w.rest, "%s", path);
    ok = begin_at(&w, *path == '/');
    while (ok && !is_over && next_part(&w, name, &is_last))
        if (strcmp(name, ".") != 0)
            ok = step(&w, name, is_last, &is_over);
    if (ok && !is_over)
        ok = errno != 0 ? fail(why, errno) : end_here(&w);
    if (!ok)
        path_fini(p);
    return ok;
}

bool path_find(const char *path, struct path_place *place, struct path_why *why)
{
    return find(path, true, place, why);
}

void path_fini(struct path_place *place)
{
    int error = errno;

    if (place->folder >= 0)
        close(place->folder);
    place->folder = -1;
    errno = error;
}

/* ---- what is done there ---- */

/* Checks the open file again, since it may have been put there after the walk. False: it may be a
 * trap. */
static bool check_open(struct path_place *p, int fd, struct path_why *why)
{
    if (fstat(fd, &p->st) < 0)
        return fail(why, errno);
    return p->is_magic || !is_trap(p, why);
}

int path_open(const char *path, int flags, mode_t mode, struct path_why *why)
{
    struct path_place p;
    int fd = -1;

    if ((flags & O_CREAT) != 0 && *path != '\0' && path[strlen(path) - 1] == '/') {
        fail(why, EISDIR);
        return -1;
    }
    for (int i = 0; i < MAX_TRIES; i++) {
        if (!path_find(path, &p, why))
            return -1;
        fd = openat(p.folder, p.name, p.is_magic ? flags : flags | O_NOFOLLOW, mode);
        if (fd < 0) {
            fail(why, errno);
        } else if (!check_open(&p, fd, why)) {
            close(fd);
            fd = -1;
            errno = EPERM;
        }
        path_fini(&p);
        if (fd >= 0 || errno != ELOOP)
            break;
    }
    return fd;
}

bool path_stat(const char *path, struct stat *st, struct path_why *why)
{
    struct path_place p;

    if (!path_find(path, &p, why))
        return false;
    path_fini(&p);
    if (!p.is_there)
        return fail(why, ENOENT);
    *st = p.st;
    return true;
}

bool path_make_folder(const char *path, mode_t mode, struct path_why *why)
{
    struct path_place p;
    bool ok;

    if (!path_find(path, &p, why))
        return false;
    ok = mkdirat(p.folder, p.name, mode) == 0 || fail(why, p.is_there ? EEXIST : errno);
    path_fini(&p);
    return ok;
}

/* Checks and then renames, for file systems that cannot do both in one step. */
static bool rename_checked(const struct path_place *a, const struct path_place *b,
                           struct path_why *why)
{
    struct stat st;

    if (fstatat(b->folder, b->name, &st, AT_SYMLINK_NOFOLLOW) == 0)
        return fail(why, EEXIST);
    return renameat(a->folder, a->name, b->folder, b->name) == 0 || fail(why, errno);
}

bool path_rename(const char *from, const char *to, struct path_why *why)
{
    struct path_place a, b;
    bool ok;

    if (!find(from, false, &a, why))
        return false;
    if (!find(to, false, &b, why)) {
        path_fini(&a);
        return false;
    }
    ok = renameat2(a.folder, a.name, b.folder, b.name, RENAME_NOREPLACE) == 0;
    if (!ok)
        ok = errno == EINVAL || errno == ENOSYS ? rename_checked(&a, &b, why) : fail(why, errno);
    path_fini(&a);
    path_fini(&b);
    return ok;
}
