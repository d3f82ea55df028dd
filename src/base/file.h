/* file.h -- files without a name, and folders that a power loss does not take back.
 *
 * A file that was synced can still be lost if the folder that contains its name was
 * not synced. A folder that may not be read, or a file system that cannot sync folders,
 * counts as synced. These functions set errno if they fail, and walk paths as path.h says.
 *
 * SPDX-License-Identifier: MIT */
#ifndef FILE_H
#define FILE_H

#include "base/path.h"

#include <stdbool.h>
#include <sys/types.h>

/* The folder that <path> is in. Owned, or NULL (out of memory). */
char *file_folder(const char *path);

/* Opens a file that has no name, in <folder>, to read and write. It is removed when it is closed,
 * also after a crash. Returns a descriptor, owned, or -1. */
int file_open_unnamed(const char *folder);

/* Syncs a folder, so that the names in it are durable. Blocks for the disk. */
bool file_sync_folder(const char *path);

/* Makes the folder <path>, in a folder that exists, and syncs the latter. Does nothing if there is
 * something of that name. Blocks for the disk. */
bool file_make_folder(const char *path, mode_t mode, struct path_why *why);

#endif
