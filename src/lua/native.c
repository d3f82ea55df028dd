/* native.c -- modules in C, in the program's own folder: pgcdc.native.NAME.
 * SPDX-License-Identifier: MIT */
#include "lua/native.h"

#include "lua/script.h"
#include "sinks/module.h"

#include <dirent.h>
#include <dlfcn.h>
#include <lauxlib.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ENDING ".so"

/* The library of each sink, as a package of Debian. */
static const struct {
    const char *name, *package;
} libraries[] = {
    { "http", "libcurl4" }, { "kafka", "librdkafka1" }, { "nats", "libnats" },
    { "redis", "libssl3" },
};

/* Sets <why> for a file that cannot be loaded, from what the loader says of it. */
static void fail_load(const char *name, const char *message, char why[], size_t size)
{
    const char *package = NULL;

    for (size_t i = 0; i < sizeof libraries / sizeof *libraries; i++)
        if (strcmp(libraries[i].name, name) == 0)
            package = libraries[i].package;
    if (package != NULL && strstr(message, "cannot open shared object file") != NULL)
        snprintf(why, size, "the sink '%s' needs a library that is missing: apt install %s (%s)",
                 name, package, message);
    else
        snprintf(why, size, "the sink '%s' cannot be loaded: %s", name, message);
}

/* Loads NAME.so of a folder. Returns what it exports, or NULL and why not. It stays loaded: what
 * its library has started may go on until the program ends. */
static const struct pgcdc_module *load(const char *folder, const char *name, char why[],
                                       size_t size)
{
    const struct pgcdc_module *m;
    char path[PATH_MAX];
    void *library;

    if (snprintf(path, sizeof path, "%s/%s" ENDING, folder, name) >= (int)sizeof path ||
        access(path, F_OK) != 0) {
        snprintf(why, size, "the sink '%s' is not installed: apt install pgcdc-lua-%s, or make "
                 "MODULES=%s", name, name, name);
        return NULL;
    }
    library = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    m = library != NULL ? dlsym(library, PGCDC_MODULE_SYMBOL) : NULL;
    if (m == NULL) {
        fail_load(name, dlerror(), why, size);
    } else if (m->abi != PGCDC_MODULE_ABI) {
        snprintf(why, size, "%s" ENDING " is of another version of pgcdc-lua (interface %u, this "
                 "program has %u): upgrade both", name, m->abi, PGCDC_MODULE_ABI);
        m = NULL;
    } else if (m->lua != LUA_VERSION_NUM || strcmp(m->name, name) != 0) {
        snprintf(why, size, "%s" ENDING " is the sink '%s' for Lua %u.%u, this program has %u.%u: "
                 "upgrade both", name, m->name, m->lua / 100, m->lua % 100, LUA_VERSION_NUM / 100,
                 LUA_VERSION_NUM % 100);
        m = NULL;
    }
    return m;
}

static bool is_name(const char *name)
{
    size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_");

    return len > 0 && name[len] == '\0';
}

int native_search(lua_State *L, const char *name)
{
    const struct pgcdc_module *m;
    char why[PATH_MAX + 400];

    if (!is_name(name))
        return 0;
    m = load(script_of(L)->o.modules_dir, name, why, sizeof why);
    if (m == NULL) {
        lua_pushstring(L, why);
        return lua_error(L);
    }
    lua_pushcfunction(L, m->open);
    lua_pushfstring(L, "%s/%s" ENDING, script_of(L)->o.modules_dir, name);
    return 2;
}

static int is_module(const struct dirent *entry)
{
    size_t len = strlen(entry->d_name);

    return strcmp(entry->d_name, "listen" ENDING) != 0 && /* is no sink */
           len > strlen(ENDING) && strcmp(entry->d_name + len - strlen(ENDING), ENDING) == 0;
}

void native_list(const char *folder, struct buf *to)
{
    struct dirent **entries = NULL;
    int n = scandir(folder, &entries, is_module, alphasort);

    for (int i = 0; i < n; i++) {
        const struct pgcdc_module *m;
        char why[PATH_MAX + 400], *name = entries[i]->d_name;

        name[strlen(name) - strlen(ENDING)] = '\0';
        m = load(folder, name, why, sizeof why);
        buf_printf(to, "%s: %s\n", name, m != NULL ? m->version : why);
        free(entries[i]);
    }
    free(entries);
}
