/* main.c -- argv, signals, exit status.
 * SPDX-License-Identifier: MIT */
#include "lua/api_host.h"
#include "host/host.h"
#include "host/listing.h"
#include "host/output.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

static volatile sig_atomic_t stop_flag;
static int stop_fd = -1;

static const char help[] =
    "Usage: pgcdc-lua [OPTION]... SCRIPT [NAME=VALUE]...\n"
    "Watch Postgres tables and run a Lua script on every change.\n"
    "\n"
    "SCRIPT is a path, or the name of a bundled script such as jsonl.\n"
    "\n"
    "  -d, --dsn CONNINFO      connection of sources that name none (default: libpq's\n"
    "                          environment, PGHOST and so on, and service files)\n"
    "  -s, --state FILE        where positions are kept (default:\n"
    "                          $XDG_STATE_HOME/pgcdc-lua/<script>.db)\n"
    "      --once              finish the snapshot, poll each source once, deliver, exit\n"
    "      --check             connect, check tables, keys and privileges, print what\n"
    "                          would run, exit\n"
    "      --graph             print the script's pipeline as Graphviz DOT, exit\n"
    "      --reset[=SOURCE]    forget the position of all sources, or of one, first\n"
    "      --max-memory SIZE   memory cap of the script (e.g. 256M; default none)\n"
    "      --max-time SECONDS  time one handler call may take (default none)\n"
    "      --sandbox           run the script without io, os.execute, C modules, debug\n"
    "      --log-level LEVEL   error, warn, info (default), debug\n"
    "      --log-format FORMAT text (default) or json, on standard error\n"
    "      --list              show the bundled scripts; NAME help=1 shows what one takes\n"
    "  -h, --help              show this\n"
    "  -V, --version           show the version\n"
    "\n"
    "Exit status: 0 done or asked to stop, 1 the script failed, 2 usage, 3 the database\n"
    "refused, 4 the state file, 70 an internal error.\n";

enum { O_ONCE = 256, O_CHECK, O_GRAPH, O_RESET, O_MAX_MEMORY, O_MAX_TIME, O_SANDBOX, O_LOG_LEVEL,
       O_LOG_FORMAT, O_LIST };

static const struct option options[] = {
    { "dsn", required_argument, NULL, 'd' },
    { "state", required_argument, NULL, 's' },
    { "once", no_argument, NULL, O_ONCE },
    { "check", no_argument, NULL, O_CHECK },
    { "graph", no_argument, NULL, O_GRAPH },
    { "reset", optional_argument, NULL, O_RESET },
    { "max-memory", required_argument, NULL, O_MAX_MEMORY },
    { "max-time", required_argument, NULL, O_MAX_TIME },
    { "sandbox", no_argument, NULL, O_SANDBOX },
    { "log-level", required_argument, NULL, O_LOG_LEVEL },
    { "log-format", required_argument, NULL, O_LOG_FORMAT },
    { "list", no_argument, NULL, O_LIST },
    { "help", no_argument, NULL, 'h' },
    { "version", no_argument, NULL, 'V' },
    { NULL, 0, NULL, 0 },
};

#define N_OPTIONS (sizeof options / sizeof *options - 1)

/* ---- signals ---- */

/* The first one asks the program to stop, the second one, of either kind, ends it at once. */
static void on_signal(int sig)
{
    uint64_t one = 1;
    int saved = errno;

    if (stop_flag) {
        signal(sig, SIG_DFL);
        raise(sig); /* is delivered when we return */
        return;
    }
    stop_flag = 1;
    if (write(stop_fd, &one, sizeof one) < 0) {
        /* a full counter is readable as well */
    }
    errno = saved;
}

static bool set_signals(struct err *e)
{
    struct sigaction stop = { .sa_handler = on_signal };
    struct sigaction ignore = { .sa_handler = SIG_IGN };

    stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (stop_fd < 0)
        return err_set(e, ERR_INTERNAL, "eventfd: %s", strerror(errno));
    sigaction(SIGINT, &stop, NULL);
    sigaction(SIGTERM, &stop, NULL);
    sigaction(SIGPIPE, &ignore, NULL);
    sigaction(SIGXFSZ, &ignore, NULL); /* a write past the limit fails, and is reported */
    return true;
}

/* What is opened must not get the number of a standard descriptor that is closed: a file of the
 * script's would take our log lines. */
static void fill_standard_descriptors(bool *stdout_is_closed)
{
    int fd;

    *stdout_is_closed = fcntl(STDOUT_FILENO, F_GETFD) < 0;
    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
}

/* ---- arguments ---- */

struct arguments {
    struct host_options host;
    struct log log;
    char *script, *state, *lua_dir, *scripts_dir; /* owned */
    bool is_answered; /* --help, --version, --list: nothing is to be run */
    bool is_list;
};

static bool fail_option(const char *word, struct err *e)
{
    const char *names[N_OPTIONS], *nearest;
    char name[64];

    snprintf(name, sizeof name, "%.*s", (int)strcspn(word, "="), word);
    for (size_t i = 0; i < N_OPTIONS; i++)
        names[i] = options[i].name;
    nearest = strncmp(name, "--", 2) == 0 ? text_nearest(name + 2, names, N_OPTIONS) : NULL;
    if (nearest != NULL)
        return err_set(e, ERR_USAGE, "unknown option %s; did you mean --%s?", name, nearest);
    return err_set(e, ERR_USAGE, "unknown option %s; --help lists them", name);
}

/* "256M" as bytes. */
static bool read_size(const char *text, size_t *size, struct err *e)
{
    static const char units[] = "KMGT";
    char *end;
    double n = strtod(text, &end);
    const char *unit = *end != '\0' ? strchr(units, *end & ~0x20) : NULL;
    double scale = 1;

    for (const char *u = units; unit != NULL && u <= unit; u++)
        scale *= 1024;
    if (end == text || !(n > 0) || (*end != '\0' && (unit == NULL || end[1] != '\0')) ||
        n * scale < 65536 || n * scale > 1e18)
        return err_set(e, ERR_USAGE, "--max-memory %s: write a size of at least 64K, such as 256M",
                       text);
    *size = (size_t)(n * scale);
    return true;
}

static bool read_seconds(const char *text, int64_t *ns, struct err *e)
{
    char *end;
    double n = strtod(text, &end);

    if (end == text || *end != '\0' || !(n > 0) || n > 1e9)
        return err_set(e, ERR_USAGE, "--max-time %s: write a number of seconds, such as 5 or 0.5",
                       text);
    *ns = (int64_t)(n * 1e9);
    return true;
}

static bool read_option(struct arguments *a, int c, const char *word, struct err *e)
{
    struct script_options *s = &a->host.script;
    int level;

    switch (c) {
    case 'd':
        s->dsn = optarg;
        return true;
    case 's':
        a->host.state = optarg;
        return true;
    case O_ONCE:
        a->host.mode = READER_ONCE;
        return true;
    case O_CHECK:
        a->host.mode = READER_CHECK;
        return true;
    case O_GRAPH:
        a->host.is_graph = true;
        return true;
    case O_RESET:
        s->resets = true;
        s->reset = optarg;
        return true;
    case O_MAX_MEMORY:
        return read_size(optarg, &s->max_memory, e);
    case O_MAX_TIME:
        return read_seconds(optarg, &s->max_time_ns, e);
    case O_SANDBOX:
        s->is_sandboxed = true;
        return true;
    case O_LOG_LEVEL:
        level = log_level_by_name(optarg);
        if (level < 0)
            return err_set(e, ERR_USAGE, "--log-level %s: use error, warn, info or debug", optarg);
        a->log.level = (enum log_level)level;
        return true;
    case O_LOG_FORMAT:
        if (strcmp(optarg, "json") != 0 && strcmp(optarg, "text") != 0)
            return err_set(e, ERR_USAGE, "--log-format %s: use text or json", optarg);
        a->log.as_json = *optarg == 'j';
        return true;
    case O_LIST:
        a->is_list = a->is_answered = true;
        return true;
    case 'h':
        fputs(help, stdout);
        a->is_answered = true;
        return true;
    case 'V':
        puts("pgcdc-lua " PGCDC_VERSION);
        a->is_answered = true;
        return true;
    case ':':
        return err_set(e, ERR_USAGE, "option %s needs a value", word);
    default:
        return fail_option(word, e);
    }
}

static bool read_words(struct arguments *a, int argc, char **argv, struct err *e)
{
    if (optind >= argc)
        return err_set(e, ERR_USAGE,
                       "which script? Name one, such as: pgcdc-lua jsonl table=orders");
    a->script = argv[optind++];
    a->host.script.words = argv + optind;
    a->host.script.n_words = (size_t)(argc - optind);
    for (int i = optind; i < argc; i++)
        if (strchr(argv[i], '=') == NULL || argv[i][0] == '=')
            return err_set(e, ERR_USAGE, "%s: words behind the script are written NAME=VALUE%s",
                           argv[i], argv[i][0] == '-' ? ", and options stand before it" : "");
    return true;
}

static bool read_arguments(struct arguments *a, int argc, char **argv, struct err *e)
{
    int c;

    opterr = 0;
    while (!a->is_answered && (c = getopt_long(argc, argv, "+:d:s:hV", options, NULL)) != -1)
        if (!read_option(a, c, argv[optind - 1], e))
            return false;
    return a->is_answered || read_words(a, argc, argv, e);
}

/* ---- files ---- */

static char *join(const char *a, const char *b, const char *c)
{
    struct buf text;

    buf_init(&text, PATH_MAX);
    buf_puts(&text, a);
    buf_puts(&text, b);
    buf_puts(&text, c);
    return buf_take(&text);
}

static bool is_file(const char *path)
{
    return path != NULL && access(path, R_OK) == 0;
}

/* The folder with the folder of our Lua files: beside the program in a build tree,
 * in share/ where it is installed. Found from where the program is, so that a copy can be moved. */
static bool find_home(struct arguments *a, struct err *e)
{
    static const char *const homes[] = { "/..", "/../share/pgcdc-lua" };
    char exe[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    char *slash;

    if (n <= 0)
        return err_set(e, ERR_INTERNAL, "cannot find my own program file: %s", strerror(errno));
    exe[n] = '\0';
    slash = strrchr(exe, '/');
    *slash = '\0';
    for (size_t i = 0; i < sizeof homes / sizeof *homes; i++) {
        char *init = join(exe, homes[i], "/lua/pgcdc/init.lua");
        bool found = is_file(init);

        if (init == NULL)
            return err_memory(e);
        free(init);
        if (found) {
            a->lua_dir = join(exe, homes[i], "/lua");
            a->scripts_dir = join(exe, homes[i], "/scripts");
            if (a->lua_dir == NULL || a->scripts_dir == NULL)
                return err_memory(e);
            break;
        }
    }
    if (a->lua_dir == NULL)
        return err_set(e, ERR_INTERNAL, "my Lua files are neither in %s/../lua nor in "
                       "%s/../share/pgcdc-lua/lua: install me with `make install`", exe, exe);
    a->host.script.lua_dir = a->lua_dir;
    a->host.script.scripts_dir = a->scripts_dir;
    return true;
}

/* A path, or the name of a bundled script with or without its ending. */
static bool find_script(struct arguments *a, struct err *e)
{
    const char *asked = a->script;
    char *found = NULL;
    bool no_memory = false;

    a->script = NULL;
    if (is_file(asked))
        no_memory = (found = strdup(asked)) == NULL;
    for (int i = 0; found == NULL && strchr(asked, '/') == NULL && i < 2; i++) {
        char *in = join(a->scripts_dir, "/", asked);

        found = in != NULL ? join(in, i == 0 ? "" : ".lua", "") : NULL;
        free(in);
        no_memory = no_memory || found == NULL;
        if (!is_file(found)) {
            free(found);
            found = NULL;
        }
    }
    a->script = found;
    if (found == NULL && no_memory)
        return err_memory(e);
    if (found == NULL)
        return err_set(e, ERR_USAGE, "there is no script %s, here or among the bundled ones in %s",
                       asked, a->scripts_dir);
    a->host.script.path = found;
    return true;
}

/* $XDG_STATE_HOME/pgcdc-lua/<script>.db */
static bool find_state(struct arguments *a, struct err *e)
{
    const char *xdg = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    const char *base = strrchr(a->script, '/');
    char *folder, *name;

    if (a->host.state != NULL)
        return true;
    name = strdup(base != NULL ? base + 1 : a->script);
    if (name != NULL && strlen(name) > 4 && strcmp(name + strlen(name) - 4, ".lua") == 0)
        name[strlen(name) - 4] = '\0';
    if (xdg != NULL && *xdg == '/') {
        folder = join(xdg, "/pgcdc-lua/", "");
    } else if (home != NULL && *home != '\0') {
        folder = join(home, "/.local/state/pgcdc-lua/", "");
    } else {
        free(name);
        return err_set(e, ERR_USAGE, "neither XDG_STATE_HOME nor HOME is set: say where positions "
                       "are kept, with --state FILE");
    }
    a->state = name != NULL && folder != NULL ? join(folder, name, ".db") : NULL;
    a->host.state = a->state;
    free(folder);
    free(name);
    return a->state != NULL || err_memory(e);
}

/* What was asked for instead of a run. */
static bool answer(struct arguments *a, struct err *e)
{
    if (a->is_list && !(find_home(a, e) && listing_print(a->scripts_dir, e)))
        return false;
    return output_flush(e);
}

int main(int argc, char **argv)
{
    struct arguments a = { .log = { .level = LOG_INFO }, .host.script.dsn = "" };
    struct err e = { .code = ERR_NONE };
    int status = 0;
    bool ok, stdout_is_closed;

    fill_standard_descriptors(&stdout_is_closed);
    a.host.script.log = &a.log;
    a.host.script.stop = &stop_flag;
    ok = read_arguments(&a, argc, argv, &e);
    if (!ok)
        a.script = NULL; /* is argv's still, if anything */
    if (ok && !a.is_answered) {
        const char *word = a.script;

        ok = find_home(&a, &e) && find_script(&a, &e);
        if (a.script == word)
            a.script = NULL;
        ok = ok && find_state(&a, &e) && output_open(stdout_is_closed, &e) && set_signals(&e);
        if (ok) {
            a.host.script.stop_fd = stop_fd;
            if (a.host.mode != READER_CHECK && !a.host.is_graph)
                a.host.script.state = a.host.state;
            ok = host_run(&a.host, &status, &e);
        } else if (e.code != ERR_USAGE) {
            log_text(&a.log, LOG_ERROR, e.msg, NULL, NULL);
        }
    }
    if (ok && a.is_answered && !answer(&a, &e)) {
        ok = false;
        log_text(&a.log, LOG_ERROR, e.msg, NULL, NULL);
    }
    if (!ok && e.code == ERR_USAGE)
        fprintf(stderr, "pgcdc-lua: %s\n", e.msg);
    free(a.script);
    free(a.state);
    free(a.lua_dir);
    free(a.scripts_dir);
    return ok ? status : err_exit_status(e.code);
}
