/* file.c -- folders that a power loss does not take back.
 * SPDX-License-Identifier: MIT */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

bool file_sync_folder(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), error = 0;

    if (fd < 0)
        return errno == EACCES; /* one may write there, not read */
    if (fsync(fd) < 0)
        error = errno;
    close(fd);
    errno = error;
    return error == 0 || error == EINVAL || error == EROFS;
}

bool file_make_folder(const char *path, mode_t mode)
{
    char copy[PATH_MAX];

    if (mkdir(path, mode) < 0)
        return errno == EEXIST;
    snprintf(copy, sizeof copy, "%s", path); /* it is not longer: mkdir took it */
    return file_sync_folder(dirname(copy));
}
