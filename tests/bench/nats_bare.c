/* nats_bare.c -- the yardstick for the sink nats: libnats' own asynchronous publisher in a loop.
 * SPDX-License-Identifier: MIT
 *
 * nats_bare URL SUBJECT COUNT BYTES [NAME VALUE]...: so many messages of so many bytes, each with
 * an id of its own and these headers. Prints the seconds from the first to the last answer. */
#include <nats/nats.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check(natsStatus s, const char *what)
{
    if (s == NATS_OK)
        return;
    fprintf(stderr, "%s: %s\n", what, natsStatus_GetText(s));
    exit(1);
}

static void publish(jsCtx *js, const char *subject, long i, const char *data, int len,
                    char **header)
{
    jsPubOptions options;
    natsMsg *msg = NULL;
    char id[64];

    jsPubOptions_Init(&options);
    snprintf(id, sizeof id, "bench.public.t/1234567/%ld", i);
    options.MsgId = id;
    check(natsMsg_Create(&msg, subject, NULL, data, len), "message");
    for (; header[0] != NULL && header[1] != NULL; header += 2)
        check(natsMsgHeader_Set(msg, header[0], header[1]), "header");
    check(js_PublishMsgAsync(js, &msg, &options), "publish");
}

int main(int argc, char **argv)
{
    natsConnection *conn = NULL;
    jsCtx *js = NULL;
    jsOptions options;
    jsPubOptions wait;
    long count = argc > 4 ? atol(argv[3]) : 0;
    int len = argc > 4 ? atoi(argv[4]) : 0;
    char *data;
    int64_t began;

    if (count <= 0 || len <= 0)
        return 2;
    data = malloc((size_t)len);
    if (data == NULL)
        return 1;
    memset(data, 'x', (size_t)len);
    check(natsConnection_ConnectTo(&conn, argv[1]), "connect");
    jsOptions_Init(&options);
    options.PublishAsync.MaxPending = 4000;
    options.PublishAsync.StallWait = 60000;
    check(natsConnection_JetStream(&js, conn, &options), "JetStream");
    began = nats_Now();
    for (long i = 0; i < count; i++)
        publish(js, argv[2], i, data, len, argv + 5);
    jsPubOptions_Init(&wait);
    wait.MaxWait = 600000;
    check(js_PublishAsyncComplete(js, &wait), "answers");
    printf("%.3f\n", (double)(nats_Now() - began) / 1000);
    jsCtx_Destroy(js);
    natsConnection_Destroy(conn);
    free(data);
    return 0;
}
