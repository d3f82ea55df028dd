/* file.h -- files without a name, and folders that a power loss does not take back.
 *
 * A file that was synced is lost nevertheless if the folder that names it was not
 * synced. A folder that may not be read, or a file system that cannot sync folders,
 * is no failure. These functions set errno when they fail.
 *
 * SPDX-License-Identifier: MIT */
#ifndef FILE_H
#define FILE_H

#include <stdbool.h>
#include <sys/types.h>

/* The folder that <path> is in. Owned, or NULL (out of memory). */
char *file_folder(const char *path);

/* Opens a file that has no name, in <folder>: it is deleted once it is closed, also after a crash.
 * Returns a descriptor, or -1. */
int file_open_unnamed(const char *folder);

/* Makes durable which names the folder has. Blocks for the disk. */
bool file_sync_folder(const char *path);

/* Makes a folder, unless it is there, in one that is there, and makes it durable. Blocks for the
 * disk. */
bool file_make_folder(const char *path, mode_t mode);

#endif
