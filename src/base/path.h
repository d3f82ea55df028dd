/* path.h -- files by their paths, so that nobody else leads us elsewhere.
 *
 * Whoever may write to a folder on the way can put a symbolic link there, and so make us write to
 * another file that we may write to. So a path is walked from folder to folder. A symbolic link is
 * followed if root or our own user owns it; that of somebody else is refused, wherever it stands.
 * (The kernel's protected_symlinks does so only in folders such as /tmp, and can be off.) The file
 * is opened by its name in the folder that was found, so that nobody can change the way meanwhile.
 *
 * In a folder that others may write to, a file can be a trap too (the kernel's protected_hardlinks
 * and protected_regular are about the same): one that has several names may be a file of ours to
 * which somebody else gave a name there; one that somebody else made in a folder such as /tmp can
 * be read by its owner. Both are refused.
 *
 * All functions that fail set errno and, so that it can follow "PATH: ", <why>.
 *
 * SPDX-License-Identifier: MIT */
#ifndef PATH_H
#define PATH_H

#include "base/warn.h"

#include <limits.h>
#include <stdbool.h>
#include <sys/stat.h>

struct path_why {
    bool is_refused; /* true: it may be somebody's trap; false: a call of the system failed */
    char text[512];
};

/* Where a path leads. */
struct path_place {
    int folder;              /* a descriptor of the folder that it is in; owned; -1: none */
    char name[NAME_MAX + 1]; /* its name there; "." of what has none there, such as / */
    bool is_there;
    bool is_magic;           /* a symbolic link of /proc to what is open: the kernel follows it */
    struct stat st;          /* what stat() says of it, if it is there */
    char real[PATH_MAX];     /* absolute; no symbolic link in it; "": a pipe, which has no path */
};

/* Finds what <path> names, which need not be there; its folder must. After success the caller calls
 * path_fini. */
bool path_find(const char *path, struct path_place *place, struct path_why *why) WARN_UNUSED;
void path_fini(struct path_place *place);

/* As open(). */
int path_open(const char *path, int flags, mode_t mode, struct path_why *why) WARN_UNUSED;

/* As stat(). */
bool path_stat(const char *path, struct stat *st, struct path_why *why) WARN_UNUSED;

/* As mkdir(), but a symbolic link in the last place is followed. */
bool path_make_folder(const char *path, mode_t mode, struct path_why *why) WARN_UNUSED;

/* As rename(). Fails with EEXIST if there is something of the new name, whatever it is. */
bool path_rename(const char *from, const char *to, struct path_why *why) WARN_UNUSED;

#endif
