/* path.h -- files by their paths, so that nobody else leads us elsewhere.
 *
 * Whoever may write to a folder on the way can put a symbolic link there, and have us write to
 * what is ours. So a path is walked from folder to folder. A symbolic link is followed if root or
 * our own user owns it; that of somebody else is refused, wherever it stands. (The kernel's
 * protected_symlinks does so only in folders such as /tmp, and can be off.) What is found is opened
 * as it is, in the folder that was found, so nothing changes in between.
 *
 * In a folder that others may write to, files can be traps too, as with protected_hardlinks and
 * protected_regular: one that has several names may be one of ours that somebody gave a name there;
 * and one that somebody else made in a folder such as /tmp is read by him. Both are refused.
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
    bool is_refused; /* somebody else may lead us elsewhere; else the system says no */
    char text[512];
};

/* Where a path leads. */
struct path_place {
    int folder;              /* a descriptor of the folder that it is in; owned; -1: none */
    char name[NAME_MAX + 1]; /* its name there; "." of what has none there, such as / */
    bool is_there;
    bool is_magic;           /* a symbolic link of /proc to what is open: the kernel follows it */
    struct stat st;          /* if it is there */
    char real[PATH_MAX];     /* absolute; no symbolic link in it; "": a pipe, which has no path */
};

/* Finds what <path> names, which need not be there; its folder must. On success path_fini is for
 * the caller. */
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
