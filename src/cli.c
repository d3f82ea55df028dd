/* cli.c -- the command line: options, NAME=VALUE words, the files that they name, --list.
 * SPDX-License-Identifier: MIT */
#include "cli.h"

#include "base/text.h"
#include "cli/cli_scripts.h"
#include "cli/default_state.h"
#include "lua/native.h"
#include "pg/conninfo.h"
#include "pg/connect.h"
#include "state/database.h"
#include "version.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEFAULT_MAX_LAG 60 /* seconds */
#define DEFAULT_LEASE 10   /* seconds */

static const char help[] =
    "Usage: pgcdc-lua [OPTION]... SCRIPT [NAME=VALUE]...\n"
    "       pgcdc-lua ctl ...       asks a program that runs: ctl --help\n"
    "Watch Postgres tables and run a Lua script on every change.\n"
    "\n"
    "SCRIPT is a path, or the name of a bundled script such as jsonl.\n"
    "\n"
    "  -d, --dsn CONNINFO      connection of sources that name none (default: libpq's\n"
    "                          environment, PGHOST and so on, and service files)\n"
    "  -s, --state FILE        where positions are kept (default: a file for this script,\n"
    "                          or this use of a bundled one, in $XDG_STATE_HOME/pgcdc-lua);\n"
    "                          or a database: a URI, or a conninfo string with a =\n"
    "      --name NAME         of the pipeline in that database (default: the script's)\n"
    "      --lease SECONDS     after which another process may take it over (default 10)\n"
    "      --once              finish the snapshot, poll each source once, deliver, exit\n"
    "      --check             look at each source and sink: print ok, or what is wrong\n"
    "                          and what mends it; exit with 0 or 3\n"
    "      --json              with --check and ctl: print JSON\n"
    "      --graph             print the script's pipeline as Graphviz DOT, exit\n"
    "      --reset[=SOURCE]    forget the position of all sources, or of one, first\n"
    "      --max-memory SIZE   memory cap of the script (e.g. 256M; default none)\n"
    "      --max-time SECONDS  time one handler call may take (default none)\n"
    "      --sandbox           run the script without io, os.execute, C modules, debug\n"
    "      --allow-network     in the sandbox: sinks that connect to servers may be used\n"
    "      --listen ADDRESS    serve metrics, health and a status page: 127.0.0.1:9187,\n"
    "                          [::1]:9187 or unix:/PATH\n"
    "      --listen-token-file FILE   a secret that clients must show; required where\n"
    "                          other machines can reach the address\n"
    "      --listen-rows       show errors and keys, which may hold values of rows, there\n"
    "      --max-lag SECONDS   a source that is later is not ready (default 60)\n"
    "      --log-level LEVEL   error, warn, info (default), debug\n"
    "      --log-format FORMAT text (default) or json, on standard error\n"
    "      --test FILE...      run suites of luaunit that test scripts, without a database\n"
    "      --lint SCRIPT       load the script without a database, say what is wrong\n"
    "      --new NAME          write NAME.lua and NAME_test.lua, to begin with\n"
    "      --record FILE       write all changes that reach the script to FILE as well\n"
    "      --replay FILE       feed what was recorded to the script; print what its sinks\n"
    "                          would get; to two scripts: where they differ\n"
    "      --list              show the bundled scripts; NAME help=1 shows what one takes\n"
    "  -h, --help              show this\n"
    "  -V, --version           show the version\n"
    "\n"
    "Exit status: 0 done or asked to stop, 1 the script failed, 2 usage, 3 the database\n"
    "refused, 4 the state, 5 another process has taken over, 70 an internal error.\n";

enum { O_ONCE = 256, O_NAME, O_LEASE, O_CHECK, O_GRAPH, O_RESET, O_MAX_MEMORY, O_MAX_TIME,
       O_SANDBOX, O_ALLOW_NETWORK, O_LISTEN, O_LISTEN_TOKEN_FILE, O_LISTEN_ROWS, O_MAX_LAG,
       O_LOG_LEVEL, O_LOG_FORMAT, O_TEST, O_LINT, O_NEW, O_RECORD, O_REPLAY, O_LIST, O_JSON };

static const struct option options[] = {
    { "dsn", required_argument, NULL, 'd' },
    { "state", required_argument, NULL, 's' },
    { "name", required_argument, NULL, O_NAME },
    { "lease", required_argument, NULL, O_LEASE },
    { "once", no_argument, NULL, O_ONCE },
    { "check", no_argument, NULL, O_CHECK },
    { "json", no_argument, NULL, O_JSON },
    { "graph", no_argument, NULL, O_GRAPH },
    { "reset", optional_argument, NULL, O_RESET },
    { "max-memory", required_argument, NULL, O_MAX_MEMORY },
    { "max-time", required_argument, NULL, O_MAX_TIME },
    { "sandbox", no_argument, NULL, O_SANDBOX },
    { "allow-network", no_argument, NULL, O_ALLOW_NETWORK },
    { "listen", required_argument, NULL, O_LISTEN },
    { "listen-token-file", required_argument, NULL, O_LISTEN_TOKEN_FILE },
    { "listen-rows", no_argument, NULL, O_LISTEN_ROWS },
    { "max-lag", required_argument, NULL, O_MAX_LAG },
    { "log-level", required_argument, NULL, O_LOG_LEVEL },
    { "log-format", required_argument, NULL, O_LOG_FORMAT },
    { "test", no_argument, NULL, O_TEST },
    { "lint", no_argument, NULL, O_LINT },
    { "new", no_argument, NULL, O_NEW },
    { "record", required_argument, NULL, O_RECORD },
    { "replay", required_argument, NULL, O_REPLAY },
    { "list", no_argument, NULL, O_LIST },
    { "help", no_argument, NULL, 'h' },
    { "version", no_argument, NULL, 'V' },
    { NULL, 0, NULL, 0 },
};

#define N_OPTIONS (sizeof options / sizeof *options - 1)

/* ---- options ---- */

/* Sets the error for an option that is not known. Returns false. */
static bool fail_option(const char *word, struct err *e)
{
    const char *names[N_OPTIONS], *nearest;
    char name[64];

    snprintf(name, sizeof name, "%.*s", (int)strcspn(word, "="), word);
    for (size_t i = 0; i < N_OPTIONS; i++)
        names[i] = options[i].name;
    nearest = strncmp(name, "--", 2) == 0 ? text_nearest(name + 2, names, N_OPTIONS) : NULL;
    if (nearest != NULL && strcmp(name + 2, nearest) == 0)
        return err_set(e, ERR_USAGE, "option %s takes no value", name);
    if (nearest != NULL)
        return err_set(e, ERR_USAGE, "unknown option %s; did you mean --%s?", name, nearest);
    return err_set(e, ERR_USAGE, "unknown option %s; --help lists them", name);
}

/* Reads --max-memory, such as "256M", as bytes. */
static bool read_size(const char *text, size_t *size, struct err *e)
{
    double bytes;

    if (!text_read_size(text, &bytes) || bytes < 65536 || bytes > 1e18)
        return err_set(e, ERR_USAGE, "--max-memory %s: write a size of at least 64K, such as 256M",
                       text);
    *size = (size_t)bytes;
    return true;
}

static bool read_seconds(const char *option, const char *text, double *seconds, struct err *e)
{
    char *end;

    *seconds = strtod(text, &end);
    if (end == text || *end != '\0' || !(*seconds > 0) || *seconds > 1e9)
        return err_set(e, ERR_USAGE, "%s %s: write a number of seconds, such as 5 or 0.5", option,
                       text);
    return true;
}

static bool read_lease(const char *text, int *seconds, struct err *e)
{
    uint64_t n;

    if (!text_is_u64(text, &n) || n < 3 || n > 86400)
        return err_set(e, ERR_USAGE, "--lease %s: write a whole number of seconds, from 3 to 86400",
                       text);
    *seconds = (int)n;
    return true;
}

static bool read_max_time(const char *text, int64_t *ns, struct err *e)
{
    double seconds;

    if (!read_seconds("--max-time", text, &seconds, e))
        return false;
    *ns = (int64_t)(seconds * 1e9);
    return true;
}

static bool read_level(const char *text, enum log_level *level, struct err *e)
{
    int n = log_level_by_name(text);

    if (n < 0)
        return err_set(e, ERR_USAGE, "--log-level %s: use error, warn, info or debug", text);
    *level = (enum log_level)n;
    return true;
}

static bool read_option(struct cli *cli, int c, const char *word, struct err *e)
{
    struct script_options *s = &cli->host.script;
    struct server_options *listen = &cli->host.listen;

    switch (c) {
    case 'd':
        s->dsn = optarg;
        return true;
    case 's':
        cli->host.state = optarg;
        return true;
    case O_NAME:
        s->pipeline = optarg;
        return true;
    case O_LEASE:
        return read_lease(optarg, &s->lease_s, e);
    case O_ONCE:
        cli->host.mode = READER_ONCE;
        return true;
    case O_CHECK:
        cli->host.mode = READER_CHECK;
        return true;
    case O_JSON:
        cli->ctl.as_json = s->as_json = true;
        return true;
    case O_GRAPH:
        cli->host.is_graph = true;
        return true;
    case O_RESET:
        s->resets = true;
        s->reset = optarg;
        return true;
    case O_MAX_MEMORY:
        return read_size(optarg, &s->max_memory, e);
    case O_MAX_TIME:
        return read_max_time(optarg, &s->max_time_ns, e);
    case O_SANDBOX:
        s->is_sandboxed = true;
        return true;
    case O_ALLOW_NETWORK:
        s->has_network = true;
        return true;
    case O_LISTEN:
        listen->listen = optarg;
        return true;
    case O_LISTEN_TOKEN_FILE:
        listen->token_file = optarg;
        return true;
    case O_LISTEN_ROWS:
        listen->health.shows_rows = true;
        return true;
    case O_MAX_LAG:
        return read_seconds("--max-lag", optarg, &listen->health.max_lag, e);
    case O_LOG_LEVEL:
        return read_level(optarg, &cli->log.level, e);
    case O_LOG_FORMAT:
        if (strcmp(optarg, "json") != 0 && strcmp(optarg, "text") != 0)
            return err_set(e, ERR_USAGE, "--log-format %s: use text or json", optarg);
        cli->log.as_json = *optarg == 'j';
        return true;
    case O_TEST:
    case O_LINT:
    case O_NEW:
    case O_REPLAY:
        cli->tool = c == O_TEST ? "main" : c == O_LINT ? "lint" : c == O_NEW ? "new" : "replay";
        s->replay = c == O_REPLAY ? optarg : s->replay;
        return true;
    case O_RECORD:
        s->record = optarg;
        return true;
    case O_LIST:
        cli->is_list = cli->is_answered = true;
        return true;
    case 'h':
        if (cli->is_ctl)
            ctl_help();
        else
            fputs(help, stdout);
        cli->is_answered = true;
        return true;
    case 'V':
        cli->is_version = cli->is_answered = true;
        return true;
    case ':':
        return err_set(e, ERR_USAGE, "option %s needs a value", word);
    default:
        return fail_option(word, e);
    }
}

/* The end of the error for a word after the script that is no NAME=VALUE. */
static const char *advice(const char *word)
{
    if (strcmp(word, "-h") == 0 || strcmp(word, "--help") == 0)
        return "; help=1 prints what it takes";
    return word[0] == '-' ? ", and options stand before it" : "";
}

/* Reads what stands after the options: the script, then NAME=VALUE words. */
static bool read_rest(struct cli *cli, int argc, char **argv, struct err *e)
{
    cli->n_options = optind;
    if (cli->is_ctl) {
        if (!ctl_read(&cli->ctl, argv + optind, (size_t)(argc - optind), e))
            return false;
        cli->asked = cli->ctl.script;
        cli->host.script.words = cli->ctl.words;
        cli->host.script.n_words = cli->ctl.n_words;
        return true;
    }
    if (cli->tool != NULL) {
        cli->host.script.files = argv + optind;
        cli->host.script.n_files = (size_t)(argc - optind);
        if (optind >= argc && cli->host.script.replay != NULL)
            return err_set(e, ERR_USAGE, "which script? Name one, such as: "
                           "pgcdc-lua --replay paid.rec paid.lua");
        return optind < argc || err_set(e, ERR_USAGE, "which file? Name one, such as: "
                                        "pgcdc-lua --test paid_test.lua");
    }
    if (optind >= argc)
        return err_set(e, ERR_USAGE,
                       "which script? Name one, such as: pgcdc-lua jsonl table=orders");
    cli->asked = argv[optind++];
    cli->host.script.words = argv + optind;
    cli->host.script.n_words = (size_t)(argc - optind);
    for (int i = optind; i < argc; i++)
        if (strchr(argv[i], '=') == NULL || argv[i][0] == '=')
            return err_set(e, ERR_USAGE, "%s: words behind the script are written NAME=VALUE%s",
                           argv[i], advice(argv[i]));
    return true;
}

static bool read_arguments(struct cli *cli, int argc, char **argv, struct err *e)
{
    int c;

    opterr = 0;
    cli->is_ctl = argc > 1 && strcmp(argv[1], "ctl") == 0;
    optind = cli->is_ctl ? 2 : 1;
    while (!cli->is_answered && (c = getopt_long(argc, argv, "+:d:s:hV", options, NULL)) != -1)
        if (!read_option(cli, c, argv[optind - 1], e))
            return false;
    if (cli->ctl.as_json && !cli->is_ctl && cli->host.mode != READER_CHECK && !cli->is_answered)
        return err_set(e, ERR_USAGE, "--json is for --check and for pgcdc-lua ctl");
    return cli->is_answered || read_rest(cli, argc, argv, e);
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

static bool is_folder(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* Finds the folders of our Lua files and modules: in a build tree the former are in the folder
 * above that of the program, else in the share/ that was installed with it. The search begins at
 * the program, so that an installation can be moved. */
static bool find_home(struct cli *cli, struct err *e)
{
    static const char *const homes[] = { "/..", "/../share/pgcdc-lua" };
    static const char *const modules[] = { "/modules", "/../lib/pgcdc-lua" };
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
            cli->lua_dir = join(exe, homes[i], "/lua");
            cli->scripts_dir = join(exe, homes[i], "/scripts");
            cli->modules_dir = join(exe, modules[i], "");
            if (cli->lua_dir == NULL || cli->scripts_dir == NULL || cli->modules_dir == NULL)
                return err_memory(e);
            break;
        }
    }
    if (cli->lua_dir == NULL)
        return err_set(e, ERR_INTERNAL, "my Lua files are neither in %s/../lua nor in "
                       "%s/../share/pgcdc-lua/lua: install me with `make install`", exe, exe);
    cli->host.script.lua_dir = cli->lua_dir;
    cli->host.script.scripts_dir = cli->scripts_dir;
    cli->host.script.modules_dir = cli->host.listen.modules_dir = cli->modules_dir;
    return true;
}

/* Finds the script of our own that does what --test and the like ask for. */
static bool find_tool(struct cli *cli, struct err *e)
{
    char *start = join(cli->lua_dir, "/pgcdc/testing/", cli->tool);

    cli->host.script.path = cli->script = start != NULL ? join(start, ".lua", "") : NULL;
    free(start);
    return cli->script != NULL || err_memory(e);
}

/* Finds the script: a path, or the name of a bundled script with or without its ending. */
static bool find_script(struct cli *cli, struct err *e)
{
    char *found = NULL;
    bool no_memory = false;

    if (is_file(cli->asked) && (strchr(cli->asked, '/') != NULL || !is_folder(cli->asked)))
        no_memory = (found = strdup(cli->asked)) == NULL;
    for (int i = 0; found == NULL && strchr(cli->asked, '/') == NULL && i < 2; i++) {
        char *in = join(cli->scripts_dir, "/", cli->asked);

        found = in != NULL ? join(in, i == 0 ? "" : ".lua", "") : NULL;
        free(in);
        no_memory = no_memory || found == NULL;
        if (!is_file(found)) {
            free(found);
            found = NULL;
        }
        cli->is_bundled = found != NULL;
    }
    if (found == NULL && no_memory)
        return err_memory(e);
    if (found == NULL)
        return cli_scripts_fail(cli->asked, cli->scripts_dir, e);
    cli->host.script.path = cli->script = found;
    return true;
}

/* Puts what its variables stand for into the connection string of an option. *owned: takes that. */
static bool expand(const char *option, const char **conninfo, char **owned, struct err *e)
{
    struct buf text;

    if (strchr(*conninfo, '$') == NULL)
        return true;
    buf_init(&text, BUF_SQL_MAX);
    if (!conninfo_expand(&text, *conninfo, e)) {
        buf_fini(&text);
        return err_prefix(e, "%s", option);
    }
    *conninfo = *owned = buf_take(&text);
    return *owned != NULL || err_memory(e);
}

/* Finds where state is kept, if no option names a file. */
static bool find_state(struct cli *cli, struct err *e)
{
    struct host_options *o = &cli->host;

    if (o->state != NULL && database_is_named(o->state)) {
        o->script.database = o->state;
        o->script.lease_s = o->script.lease_s != 0 ? o->script.lease_s : DEFAULT_LEASE;
        if (!expand("--state", &o->script.database, &cli->database, e))
            return false;
        if (!connect_check(o->script.database, e))
            return err_prefix(e, "--state");
    } else if (o->script.pipeline != NULL || o->script.lease_s != 0) {
        return err_set(e, ERR_USAGE, "--name and --lease are for a state in a database: name one "
                       "with --state");
    } else if (o->state != NULL) {
        return true;
    }
    if (o->script.pipeline != NULL) { /* two of them may run one script */
        o->state = cli->state = default_state_of(o->script.pipeline, e);
        return cli->state != NULL;
    }
    cli->state = default_state_path(o, cli->is_bundled, &cli->is_old_state, e);
    o->state = cli->state;
    if (cli->state == NULL || o->script.database == NULL)
        return cli->state != NULL;
    cli->pipeline = default_state_name(cli->state);
    o->script.pipeline = cli->pipeline;
    return cli->pipeline != NULL || err_memory(e);
}

/* For the sandbox: completes --dsn from libpq's variables, and then clears these, since the script
 * gets neither of them. If --dsn cannot be read, the first connection says so. */
static bool shut_off(struct cli *cli, struct err *e)
{
    struct buf text;
    struct err why;
    bool ok;

    buf_init(&text, SIZE_MAX / 2);
    ok = conninfo_resolve(&text, cli->host.script.dsn, &why);
    conninfo_clear_environment();
    if (ok) {
        buf_putc(&text, '\0');
        free(cli->dsn);
        cli->dsn = buf_take(&text);
        if (cli->dsn == NULL)
            return err_memory(e);
        cli->host.script.dsn = cli->dsn;
    } else if (why.code != ERR_USAGE) {
        *e = why;
    }
    buf_fini(&text);
    return ok || why.code == ERR_USAGE;
}

/* ---- --version ---- */

/* Prints our version, and that of the library of each module. */
static bool print_version(struct cli *cli, struct err *e)
{
    struct buf text;
    bool ok;

    puts("pgcdc-lua " VERSION);
    if (!find_home(cli, e))
        return true; /* without our files there are no modules either, but the version is known */
    buf_init(&text, BUF_SQL_MAX);
    native_list(cli->modules_dir, &text);
    server_put_version(cli->modules_dir, &text);
    ok = buf_ok(&text);
    if (text.len > 0 && ok)
        fputs(text.data, stdout);
    buf_fini(&text);
    return ok || err_memory(e);
}

/* ---- all of it ---- */

void cli_init(struct cli *cli)
{
    *cli = (struct cli){ .log = { .level = LOG_INFO }, .host.script.dsn = "" };
    cli->host.script.log = &cli->log;
    cli->host.script.version = VERSION;
    cli->host.listen.health.max_lag = DEFAULT_MAX_LAG;
}

void cli_fini(struct cli *cli)
{
    free(cli->script);
    free(cli->state);
    free(cli->pipeline);
    free(cli->dsn);
    free(cli->database);
    free(cli->lua_dir);
    free(cli->scripts_dir);
    free(cli->modules_dir);
}

bool cli_read(struct cli *cli, int argc, char **argv, struct err *e)
{
    if (!read_arguments(cli, argc, argv, e))
        return false;
    if (cli->is_list)
        return find_home(cli, e) && cli_scripts_print(cli->scripts_dir, e);
    if (cli->is_version)
        return print_version(cli, e);
    if (cli->is_answered)
        return true;
    cli->host.script.has_network = cli->host.script.has_network || !cli->host.script.is_sandboxed;
    if (!find_home(cli, e))
        return false;
    if (cli->tool != NULL)
        return find_tool(cli, e);
    if (!expand("--dsn", &cli->host.script.dsn, &cli->dsn, e))
        return false;
    if (cli->is_ctl && (cli->host.state == NULL ? cli->asked == NULL
                                                : !database_is_named(cli->host.state)))
        return true;
    if (cli->is_ctl && cli->asked == NULL)
        return cli->host.script.pipeline != NULL
                   ? find_state(cli, e)
                   : err_set(e, ERR_USAGE, "ctl: which pipeline? Name it with --name, or its "
                             "script");
    if (!find_script(cli, e) || !find_state(cli, e))
        return false;
    if (cli->host.script.is_sandboxed && !shut_off(cli, e))
        return false;
    if (cli->host.mode == READER_CHECK)
        cli->host.script.state_asked = cli->host.script.database == NULL
                                           ? cli->host.state : cli->host.script.pipeline;
    else if (!cli->host.is_graph)
        cli->host.script.state = cli->host.state;
    return true;
}
