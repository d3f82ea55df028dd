/* file.c -- files without a name, and folders that a power loss does not take back.
 * SPDX-License-Identifier: MIT */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

char *file_folder(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash == NULL ? strdup(".") : strndup(path, slash == path ? 1 : (size_t)(slash - path));
}

int file_open_unnamed(const char *folder)
{
    char name[PATH_MAX];
    struct path_place place;
    struct path_why why;
    int fd = path_open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600, &why);

    if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL))
        return fd;
    /* not every file system knows O_TMPFILE */
    if (!path_find(folder, &place, &why))
        return -1;
    path_fini(&place);
    if ((size_t)snprintf(name, sizeof name, "%s/pgcdc-lua.XXXXXX", place.real) >= sizeof name) {
        errno = ENAMETOOLONG;
        return -1;
    }
    fd = mkostemp(name, O_CLOEXEC);
    if (fd >= 0)
        unlink(name);
    return fd;
}

bool file_sync_folder(const char *path)
{
    struct path_why why;
    int fd = path_open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0, &why), error = 0;

    if (fd < 0)
        return errno == EACCES; /* we may not read it, but perhaps write there */
    if (fsync(fd) < 0)
        error = errno;
    close(fd);
    errno = error;
    return error == 0 || error == EINVAL || error == EROFS;
}

bool file_make_folder(const char *path, mode_t mode, struct path_why *why)
{
    char text[PATH_MAX]; /* dirname changes it */

    if (!path_make_folder(path, mode, why))
        return errno == EEXIST;
    snprintf(text, sizeof text, "%s", path); /* it is not longer: mkdir took it */
    if (file_sync_folder(dirname(text)))
        return true;
    snprintf(why->text, sizeof why->text, "%s", strerror(errno));
    return false;
}
