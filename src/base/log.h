/* log.h -- lines on standard error.
 *
 * One line per message, written at once, as logfmt or as a JSON object. Only main, the folder
 * host/, lua/api_host (for scripts), lua/api_db (for waits) and lua/sandbox (for what a script may
 * not know) call these functions; everything else returns its errors and notices to its caller.
 *
 * SPDX-License-Identifier: MIT */
#ifndef LOG_H
#define LOG_H

#include <stdbool.h>
#include <stddef.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

struct log {
    enum log_level level; /* less important messages are not written */
    bool as_json;
    bool bar_shown;       /* a progress bar stands on the terminal's last line */
    const char *worker;   /* each line says that it is of this one; borrowed; NULL: of none */
};

/* One key=value after the message. <value>: <len> bytes, which need not be UTF-8. <raw>: the value
 * is a JSON number, true, false or null, and is written without quotes. */
struct log_field {
    const char *key;
    const char *value;
    size_t len;
    bool raw;
};

/* The level with this name, as the command line has them; -1 if there is none. */
int log_level_by_name(const char *name);

/* Writes one line. If standard error cannot be written, the line is lost. A line that is too long
 * or that there is no memory for is written without its fields, and its message is cut. */
void log_line(struct log *log, enum log_level level, const char *msg, size_t len,
              const struct log_field *fields, size_t n_fields);

/* The same for a plain C string and up to one field (<key> NULL: none). */
void log_text(struct log *log, enum log_level level, const char *msg, const char *key,
              const char *value);

/* Writes what is wrong with the command line: one line without time and level. */
void log_usage(const char *msg);

/* Draws, redraws or (<text> NULL) wipes a progress bar on the terminal's last line. */
void log_bar(struct log *log, const char *text);

#endif
