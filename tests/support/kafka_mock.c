/* kafka_mock.c -- a cluster that speaks Kafka's protocol and fails as it is told.
 * SPDX-License-Identifier: MIT
 *
 *    kafka_mock BROKERS
 *
 * Prints the addresses of its brokers on one line. Then each line of standard input is a command,
 * answered by "ok" or what is wrong; it ends with its input.
 *    topic NAME PARTITIONS
 *    error API CODE TIMES     that many requests with this number (0: Produce) get this error
 *    down BROKER / up BROKER
 *    rtt BROKER MILLISECONDS
 *    without API     brokers know no request with this number, as older ones do */
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>
#include <stdio.h>
#include <unistd.h>

static const char *obey(rd_kafka_mock_cluster_t *cluster, const char *line)
{
    char name[256];
    int a, b, n;
    rd_kafka_resp_err_t code = RD_KAFKA_RESP_ERR_NO_ERROR;

    if (sscanf(line, "topic %255s %d", name, &n) == 2) {
        code = rd_kafka_mock_topic_create(cluster, name, n, 1);
    } else if (sscanf(line, "error %d %d %d", &a, &b, &n) == 3) {
        while (n-- > 0)
            rd_kafka_mock_push_request_errors(cluster, (int16_t)a, 1, (rd_kafka_resp_err_t)b);
    } else if (sscanf(line, "down %d", &a) == 1) {
        code = rd_kafka_mock_broker_set_down(cluster, a);
    } else if (sscanf(line, "up %d", &a) == 1) {
        code = rd_kafka_mock_broker_set_up(cluster, a);
    } else if (sscanf(line, "rtt %d %d", &a, &n) == 2) {
        code = rd_kafka_mock_broker_set_rtt(cluster, a, n);
    } else if (sscanf(line, "without %d", &a) == 1) {
        code = rd_kafka_mock_set_apiversion(cluster, (int16_t)a, -1, -1);
    } else {
        return "there is no such command";
    }
    return code == RD_KAFKA_RESP_ERR_NO_ERROR ? "ok" : rd_kafka_err2str(code);
}

int main(int argc, char **argv)
{
    char line[512], why[512];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_mock_cluster_t *cluster;
    rd_kafka_t *rk;
    int brokers = 1;

    if (argc > 1)
        sscanf(argv[1], "%d", &brokers);
    rd_kafka_conf_set_log_cb(conf, NULL);
    rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
    cluster = rk != NULL ? rd_kafka_mock_cluster_new(rk, brokers) : NULL;
    if (cluster == NULL)
        return 1;
    printf("%s\n", rd_kafka_mock_cluster_bootstraps(cluster));
    fflush(stdout);
    while (fgets(line, sizeof line, stdin) != NULL) {
        printf("%s\n", obey(cluster, line));
        fflush(stdout);
    }
    _exit(0); /* to tidy up takes a second */
}
