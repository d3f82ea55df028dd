/* file.h -- folders that a power loss does not take back.
 *
 * A file that was synced is gone nevertheless when nobody synced the folder that
 * names it. These functions set errno when they fail. A folder that may not be
 * read, or a file system that cannot sync folders, is no failure.
 *
 * SPDX-License-Identifier: MIT */
#ifndef FILE_H
#define FILE_H

#include <stdbool.h>
#include <sys/types.h>

/* Names that were given or taken in the folder last. Blocks for the disk. */
bool file_sync_folder(const char *path);

/* Makes a folder, unless it is there, in one that is there: for good. Blocks for the disk. */
bool file_make_folder(const char *path, mode_t mode);

#endif
