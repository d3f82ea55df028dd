/* path.c -- unit tests of paths.
 * SPDX-License-Identifier: MIT */
#include "base/path.h"
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SOMEBODY 54321

static struct path_why why;

/* Goes to a new folder, which it returns. */
static const char *enter(void)
{
    static char folder[1000], real[PATH_MAX];
    const char *tmp = getenv("TMPDIR");

    snprintf(folder, sizeof folder, "%s/unit.XXXXXX", tmp != NULL && *tmp != '\0' ? tmp : "/tmp");
    CHECK(mkdtemp(folder) != NULL && chdir(folder) == 0 && realpath(".", real) != NULL);
    return real;
}

static void leave(const char *folder)
{
    CHECK(chdir("/") == 0 && rmdir(folder) == 0);
}

static void put_file(const char *path)
{
    int fd = path_open(path, O_WRONLY | O_CREAT | O_EXCL, 0600, &why);

    CHECK(fd >= 0);
    close(fd);
}

static bool is_at(const char *path, const char *folder, const char *rest)
{
    char wanted[PATH_MAX + 100];
    struct path_place place;
    bool ok = path_find(path, &place, &why);

    snprintf(wanted, sizeof wanted, "%s%s", folder, rest);
    ok = ok && strcmp(place.real, wanted) == 0;
    if (ok)
        path_fini(&place);
    return ok;
}

static bool fails(const char *path, int error)
{
    struct path_place place;

    return !path_find(path, &place, &why) && errno == error && !why.is_refused;
}

static void test_walk(void)
{
    const char *folder = enter();
    char path[PATH_MAX + 100], text[300];

    CHECK(path_make_folder("a", 0700, &why) && path_make_folder("a/b/", 0700, &why));
    CHECK(!path_make_folder("a/b", 0700, &why) && errno == EEXIST);
    CHECK(symlink("a/b/", "s") == 0 && symlink("loop", "loop") == 0);
    put_file("s/f");
    CHECK(is_at("s/f", folder, "/a/b/f") && is_at("./a//b/../b/./new", folder, "/a/b/new"));
    CHECK(is_at("s/..", folder, "/a") && is_at(".", folder, "") && is_at("a/b/", folder, "/a/b"));
    CHECK(is_at("/", "/", "") && is_at("/..", "/", "") && is_at("/../dev/null", "/dev/null", ""));
    snprintf(path, sizeof path, "%s/s/../b/f", folder);
    CHECK(is_at(path, folder, "/a/b/f"));
    CHECK(fails("", ENOENT) && fails("none/f", ENOENT) && fails("s/f/g", ENOTDIR));
    CHECK(fails("loop", ELOOP) && fails("loop/f", ELOOP));
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = '\0';
    CHECK(fails(text, ENAMETOOLONG));
    CHECK(path_open("new/", O_WRONLY | O_CREAT, 0600, &why) < 0 && errno == EISDIR);
    CHECK(unlink("a/b/f") == 0 && rmdir("a/b") == 0 && rmdir("a") == 0 && unlink("s") == 0 &&
          unlink("loop") == 0);
    leave(folder);
}

static void test_rename(void)
{
    const char *folder = enter();

    put_file("a");
    put_file("b");
    CHECK(symlink("nothing", "s") == 0);
    CHECK(!path_rename("a", "b", &why) && errno == EEXIST);
    CHECK(!path_rename("a", "s", &why) && errno == EEXIST);
    CHECK(!path_rename("none", "c", &why) && errno == ENOENT);
    CHECK(path_rename("s", "t", &why) && access("nothing", F_OK) < 0);
    CHECK(path_rename("a", "c", &why) && access("a", F_OK) < 0);
    CHECK(unlink("b") == 0 && unlink("c") == 0 && unlink("t") == 0);
    leave(folder);
}

/* Only root can give a link to somebody. */
static void test_others(void)
{
    const char *folder = enter();
    struct stat st;

    CHECK(mkdir("d", 0700) == 0 && symlink("d", "s") == 0 && symlink("s", "mine") == 0);
    put_file("d/f");
    if (geteuid() == 0 && lchown("s", SOMEBODY, SOMEBODY) == 0) {
        CHECK(!path_stat("s", &st, &why) && why.is_refused);
        CHECK(!path_stat("s/f", &st, &why) && why.is_refused);
        CHECK(!path_stat("mine/f", &st, &why) && why.is_refused);
        CHECK(strstr(why.text, "/s is a symbolic link of user 54321, which is not") != NULL);
        CHECK(path_open("s/g", O_CREAT | O_WRONLY, 0600, &why) < 0 && why.is_refused);
        CHECK(!path_make_folder("s/g", 0700, &why) && why.is_refused);
        CHECK(!path_rename("d/f", "s/g", &why) && why.is_refused);
        CHECK(!path_rename("s/f", "g", &why) && why.is_refused);
        CHECK(!path_rename("d/f", "s", &why) && errno == EEXIST);
    }
    CHECK(unlink("d/f") == 0 && rmdir("d") == 0 && unlink("s") == 0 && unlink("mine") == 0);
    leave(folder);
}

const struct unit_case path_cases[] = {
    { "path_walk", test_walk },
    { "path_rename", test_rename },
    { "path_others", test_others },
    { NULL, NULL },
};
