/* observer.c -- sees when changes arrive, in a file or in a topic of Kafka, for `make bench-peers`.
 * SPDX-License-Identifier: MIT
 *
 *    observer file PATH              lines of a file, which is there and empty
 *    observer kafka BROKERS TOPIC    committed records of a topic, which is made
 *
 * It says "ok" when it looks. Then a number N on standard input asks for the next N changes, and
 * is answered when they are there: a line with
 *    how many came (more than N: somebody delivered what was not written) and their bytes;
 *    seconds from the question to when the first came, the one in the middle, and the last;
 *    how many came with those up to the middle.
 * "-N" asks besides for the time from what their field "at" says, when they were written, to their
 * arrival: how many have it; the median, the 99th percentile and the longest, in milliseconds. "0"
 * is answered at once, with how many have come since the last answer.
 * What was seen of a file is taken out of it, so that it needs no room. */
#include <fcntl.h>
#include <librdkafka/rdkafka.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <time.h>
#include <unistd.h>

#define CHUNK (1 << 20)
#define KEPT (64 << 20) /* bytes of the file that stay */

/* What came since the last answer. */
static struct {
    long count, wanted, middle_count;
    bool wants_late;
    long long bytes;
    double asked, first, middle, last; /* seconds since 1970 */
    double *late; /* seconds from "at" to the arrival */
    long late_count, late_size;
} seen;

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Seconds since 1970 of the field "at" of a change, such as 2026-11-30T01:40:56.123456Z, which is
 * UTC; false if it has none. */
static bool written_at(const char *text, size_t len, double *at)
{
    struct tm t = {0};
    double seconds;
    const char *p = memmem(text, len, "\"at\":\"", 6);
    char copy[40];

    if (p == NULL || len - (size_t)(p - text) < sizeof copy + 6)
        return false;
    memcpy(copy, p + 6, sizeof copy - 1);
    copy[sizeof copy - 1] = '\0';
    if (sscanf(copy, "%d-%d-%dT%d:%d:%lf", &t.tm_year, &t.tm_mon, &t.tm_mday, &t.tm_hour,
               &t.tm_min, &seconds) != 6)
        return false;
    t.tm_year -= 1900;
    t.tm_mon -= 1;
    *at = (double)timegm(&t) + seconds;
    return true;
}

/* A change has come at <when>. */
static void see(const char *text, size_t len, double when)
{
    double at;

    if (seen.count++ == 0)
        seen.first = when;
    seen.last = when;
    seen.bytes += (long long)len;
    if (seen.middle_count == 0 && seen.wanted > 0 && seen.count >= seen.wanted / 2)
        seen.middle = when;
    if (seen.middle == when)
        seen.middle_count = seen.count;
    if (!seen.wants_late || !written_at(text, len, &at))
        return;
    if (seen.late_count == seen.late_size) {
        seen.late_size = seen.late_size ? 2 * seen.late_size : 1 << 16;
        seen.late = realloc(seen.late, (size_t)seen.late_size * sizeof *seen.late);
        if (seen.late == NULL)
            fail("memory");
    }
    seen.late[seen.late_count++] = when - at;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double percentile(int p)
{
    long at = (seen.late_count * p + 99) / 100;

    return seen.late_count ? 1000 * seen.late[at > 0 ? at - 1 : 0] : 0;
}

static void answer(void)
{
    double *late = seen.late;
    long size = seen.late_size;

    qsort(seen.late, (size_t)seen.late_count, sizeof *seen.late, compare);
    printf("%ld %lld %.6f %.6f %.6f %ld %ld %.3f %.3f %.3f\n", seen.count, seen.bytes,
           seen.first - seen.asked, seen.middle - seen.asked, seen.last - seen.asked,
           seen.middle_count, seen.late_count, percentile(50), percentile(99), percentile(100));
    fflush(stdout);
    memset(&seen, 0, sizeof seen);
    seen.late = late;
    seen.late_size = size;
}

/* Takes what was asked; ends the program where nobody asks any more. */
static void listen_to(int fd)
{
    static char line[32];
    static size_t len;
    struct pollfd in = {.fd = fd, .events = POLLIN};

    while (poll(&in, 1, 0) > 0) {
        if (read(fd, line + len, 1) != 1)
            exit(0);
        if (line[len] == '\n') {
            line[len] = '\0';
            len = 0;
            if (strcmp(line, "0") == 0) {
                printf("%ld\n", seen.count);
                fflush(stdout);
                continue;
            }
            seen.wanted = labs(atol(line));
            seen.wants_late = line[0] == '-';
            seen.asked = now();
        } else if (len < sizeof line - 2) {
            len++;
        }
    }
}

static void look_at_file(const char *path)
{
    static char buf[2 * CHUNK];
    size_t len = 0;
    off_t read_to = 0, cut_to = 0;
    char events[4096];
    int fd = open(path, O_RDWR | O_CLOEXEC), watch = inotify_init1(IN_NONBLOCK);
    struct pollfd fds[] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = watch, .events = POLLIN}};

    if (fd < 0 || watch < 0 || inotify_add_watch(watch, path, IN_MODIFY) < 0)
        fail(path);
    puts("ok");
    fflush(stdout);
    for (;;) {
        double when;
        char *line = buf, *end;
        ssize_t n = read(fd, buf + len, sizeof buf - len);

        if (n < 0)
            fail(path);
        when = now();
        read_to += n;
        len += (size_t)n;
        for (; (end = memchr(line, '\n', len)) != NULL; line = end + 1) {
            see(line, (size_t)(end - line), when);
            len -= (size_t)(end + 1 - line);
        }
        memmove(buf, line, len);
        if (read_to - cut_to > KEPT) {
            fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, cut_to, read_to - cut_to);
            cut_to = read_to;
        }
        listen_to(STDIN_FILENO);
        if (seen.wanted > 0 && seen.count >= seen.wanted)
            answer();
        if (n == 0) {
            poll(fds, 2, -1);
            while (read(watch, events, sizeof events) > 0)
                ;
        }
    }
}

/* The partitions of the topic, which the broker makes when it is asked for them. */
static int partitions(rd_kafka_t *consumer, rd_kafka_topic_t *topic)
{
    const struct rd_kafka_metadata *metadata;
    int count = 0;

    while (count == 0) {
        if (rd_kafka_metadata(consumer, 0, topic, &metadata, 10000) != RD_KAFKA_RESP_ERR_NO_ERROR)
            continue;
        count = metadata->topics[0].partition_cnt;
        rd_kafka_metadata_destroy(metadata);
        if (count == 0)
            usleep(100000);
    }
    return count;
}

static void look_at_kafka(const char *brokers, const char *name)
{
    static const char *settings[][2] = {
        {"group.id", "observer"},          {"isolation.level", "read_committed"},
        {"enable.auto.commit", "false"},   {"allow.auto.create.topics", "true"},
        {"auto.offset.reset", "earliest"}, {"fetch.error.backoff.ms", "1"},
    };
    char why[512] = "";
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_t *topic;
    rd_kafka_t *consumer;
    int count;

    rd_kafka_conf_set(conf, "bootstrap.servers", brokers, why, sizeof why);
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        if (rd_kafka_conf_set(conf, settings[i][0], settings[i][1], why, sizeof why) !=
            RD_KAFKA_CONF_OK)
            fail(why);
    consumer = rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, sizeof why);
    if (consumer == NULL)
        fail(why);
    rd_kafka_poll_set_consumer(consumer);
    topic = rd_kafka_topic_new(consumer, name, NULL);
    count = partitions(consumer, topic);
    for (int i = 0; i < count; i++)
        rd_kafka_topic_partition_list_add(list, name, i)->offset = RD_KAFKA_OFFSET_BEGINNING;
    if (rd_kafka_assign(consumer, list) != RD_KAFKA_RESP_ERR_NO_ERROR)
        fail("assign");
    puts("ok");
    fflush(stdout);
    for (;;) {
        rd_kafka_message_t *message = rd_kafka_consumer_poll(consumer, 10);

        if (message != NULL) {
            if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR)
                see(message->payload, message->len, now());
            rd_kafka_message_destroy(message);
            if (seen.count % 64 != 0 && seen.count < seen.wanted)
                continue;
        }
        listen_to(STDIN_FILENO);
        if (seen.wanted > 0 && seen.count >= seen.wanted)
            answer();
    }
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "file") == 0)
        look_at_file(argv[2]);
    else if (argc == 4 && strcmp(argv[1], "kafka") == 0)
        look_at_kafka(argv[2], argv[3]);
    return 2;
}
