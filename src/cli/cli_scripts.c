/* cli_scripts.c -- the bundled scripts, for the command line.
 * SPDX-License-Identifier: MIT */
#include "cli/cli_scripts.h"

#include "base/text.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int is_script(const struct dirent *entry)
{
    size_t len = strlen(entry->d_name);

    return len > 4 && entry->d_name[0] != '.' && strcmp(entry->d_name + len - 4, ".lua") == 0;
}

bool cli_scripts_fail(const char *asked, const char *folder, struct err *e)
{
    struct dirent **entries = NULL;
    int n = scandir(folder, &entries, is_script, alphasort);
    const char **names = n > 0 ? calloc((size_t)n, sizeof *names) : NULL;
    const char *nearest = NULL;

    for (int i = 0; i < n; i++) {
        entries[i]->d_name[strlen(entries[i]->d_name) - 4] = '\0';
        if (names != NULL)
            names[i] = entries[i]->d_name;
    }
    if (names != NULL)
        nearest = text_nearest(asked, names, (size_t)n);
    err_set(e, ERR_USAGE, "there is no script %s, here or among the bundled ones in %s%s%s%s",
            asked, folder, nearest != NULL ? "; did you mean " : "",
            nearest != NULL ? nearest : "", nearest != NULL ? "?" : "");
    for (int i = 0; i < n; i++)
        free(entries[i]);
    free(entries);
    free(names);
    return false;
}

#define WIDTH 12

/* Prints the name of a script and its first line, of which "-- jsonl: every change ..." becomes
 * "every change ...". */
static void print_script(int folder, const char *file)
{
    int fd = openat(folder, file, O_RDONLY | O_CLOEXEC), len = (int)strlen(file) - 4;
    FILE *f = fd >= 0 ? fdopen(fd, "r") : NULL;
    char line[400] = "", *job = line;

    if (f == NULL || fgets(line, sizeof line, f) == NULL)
        line[0] = '\0';
    if (f != NULL)
        fclose(f);
    else if (fd >= 0)
        close(fd);
    line[strcspn(line, "\r\n")] = '\0';
    if (strncmp(job, "--", 2) == 0)
        job += 2 + strspn(job + 2, " ");
    if (strncmp(job, file, (size_t)len) == 0 && job[len] == ':')
        job += len + 1 + (int)strspn(job + len + 1, " ");
    printf("%-*.*s %s\n", WIDTH, len, file, job);
}

bool cli_scripts_print(const char *folder, struct err *e)
{
    struct dirent **entries = NULL;
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int n = fd >= 0 ? scandir(folder, &entries, is_script, alphasort) : -1;

    if (n < 0) {
        err_set(e, ERR_INTERNAL, "%s: %s", folder, strerror(errno));
        if (fd >= 0)
            close(fd);
        return false;
    }
    for (int i = 0; i < n; i++) {
        print_script(fd, entries[i]->d_name);
        free(entries[i]);
    }
    free(entries);
    close(fd);
    return true;
}
