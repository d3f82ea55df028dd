/* log.h -- lines on standard error.
 *
 * One line per message, written at once, as logfmt or as a JSON object. Only the host, main
 * and what scripts log (lua/api_host, lua/api_state) write here; everything else returns
 * what it has to say.
 *
 * SPDX-License-Identifier: MIT */
#ifndef LOG_H
#define LOG_H

#include <stdbool.h>
#include <stddef.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

struct log {
    enum log_level level; /* what is less important is not written */
    bool as_json;
    bool bar_shown;       /* a progress bar stands on the terminal's last line */
};

/* One key=value after the message. <value> is text of <len> bytes, any bytes;
 * <raw>: already a JSON number, true, false or null. */
struct log_field {
    const char *key;
    const char *value;
    size_t len;
    bool raw;
};

/* The level with this name, as the command line has them; -1 if there is none. */
int log_level_by_name(const char *name);

/* Writes one line. If standard error cannot be written, nothing is written and nothing is said. */
void log_line(struct log *log, enum log_level level, const char *msg, size_t len,
              const struct log_field *fields, size_t n_fields);

/* The same for a plain C string and up to one field (<key> NULL: none). */
void log_text(struct log *log, enum log_level level, const char *msg, const char *key,
              const char *value);

/* Draws, redraws or (<text> NULL) wipes a progress bar on the terminal's last line. */
void log_bar(struct log *log, const char *text);

#endif
