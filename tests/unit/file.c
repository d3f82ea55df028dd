/* file.c -- unit tests of folders and of files without a name.
 * SPDX-License-Identifier: MIT */
#include "base/file.h"

#include "unit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_folder_of(const char *path, const char *wanted)
{
    char *folder = file_folder(path);
    bool is = folder != NULL && strcmp(folder, wanted) == 0;

    free(folder);
    return is;
}

static void test_folder(void)
{
    CHECK(is_folder_of("a", ".") && is_folder_of("a/b", "a") && is_folder_of("/a/b/c", "/a/b"));
    CHECK(is_folder_of("/a", "/") && is_folder_of("./a", ".") && is_folder_of("", "."));
}

static void test_unnamed(void)
{
    const char *tmp = getenv("TMPDIR");
    char folder[1000], sub[1010];
    struct path_why why;
    struct stat st;
    int fd;

    snprintf(folder, sizeof folder, "%s/unit.XXXXXX", tmp != NULL && *tmp != '\0' ? tmp : "/tmp");
    CHECK(mkdtemp(folder) != NULL);
    fd = file_open_unnamed(folder);
    CHECK(fd >= 0 && fstat(fd, &st) == 0 && st.st_nlink == 0);
    CHECK(write(fd, "x", 1) == 1 && lseek(fd, 0, SEEK_SET) == 0);
    snprintf(sub, sizeof sub, "%s/sub", folder);
    CHECK(file_open_unnamed(sub) < 0 && errno == ENOENT);
    CHECK(file_make_folder(sub, 0700, &why) && file_make_folder(sub, 0700, &why));
    CHECK(file_sync_folder(sub));
    CHECK(rmdir(sub) == 0 && rmdir(folder) == 0); /* nothing was left in it */
    close(fd);
}

const struct unit_case file_cases[] = {
    { "file_folder", test_folder },
    { "file_unnamed", test_unnamed },
    { NULL, NULL },
};
