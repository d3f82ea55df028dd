// Peer.java -- Debezium's engine, into a file or into Kafka, for `make bench-peers`.
// SPDX-License-Identifier: MIT
//
//    Peer PROPERTIES file PATH             a line of JSON each, out of the buffer with its batch
//    Peer PROPERTIES kafka BROKERS TOPIC   each batch is acknowledged before the next one
//
// A batch is marked as done when it is delivered, as Debezium's manual says. It runs until it is
// killed; if the engine ends, the reason goes to standard error.

import io.debezium.engine.ChangeEvent;
import io.debezium.engine.DebeziumEngine;
import io.debezium.engine.format.Json;
import java.io.BufferedOutputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.io.Reader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.serialization.StringSerializer;

class Peer {
    /** Where a batch goes; returns when it is there. */
    private interface Target {
        void take(List<ChangeEvent<String, String>> batch)
            throws IOException, InterruptedException, ExecutionException;
    }

    private static Target file(String path) throws IOException {
        OutputStream out = new BufferedOutputStream(new FileOutputStream(path), 1 << 20);
        return batch -> {
            for (ChangeEvent<String, String> event : batch) {
                out.write(event.value().getBytes(StandardCharsets.UTF_8));
                out.write('\n');
            }
            out.flush();
        };
    }

    private static Target kafka(String brokers, String topic) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", brokers);
        properties.put("acks", "all");
        properties.put("enable.idempotence", "true");
        properties.put("linger.ms", "5");
        properties.put("batch.size", "1000000");
        properties.put("compression.type", "lz4");
        properties.put("key.serializer", StringSerializer.class.getName());
        properties.put("value.serializer", StringSerializer.class.getName());
        KafkaProducer<String, String> producer = new KafkaProducer<>(properties);
        return batch -> {
            List<Future<RecordMetadata>> sent = new ArrayList<>(batch.size());
            for (ChangeEvent<String, String> event : batch)
                sent.add(producer.send(new ProducerRecord<>(topic, event.key(), event.value())));
            producer.flush();
            for (Future<RecordMetadata> one : sent)
                one.get();
        };
    }

    public static void main(String[] args) throws IOException {
        Properties properties = new Properties();
        try (Reader reader = Files.newBufferedReader(Path.of(args[0]))) {
            properties.load(reader);
        }
        Target target = args[1].equals("file") ? file(args[2]) : kafka(args[2], args[3]);
        DebeziumEngine.create(Json.class)
            .using(properties)
            .using((success, message, error) -> {
                System.err.println(message);
                if (error != null)
                    error.printStackTrace();
            })
            .notifying((batch, committer) -> {
                try {
                    target.take(batch);
                } catch (IOException | ExecutionException e) {
                    throw new IllegalStateException(e);
                }
                for (ChangeEvent<String, String> event : batch)
                    committer.markProcessed(event);
                committer.markBatchFinished();
            })
            .build()
            .run();
        System.exit(1);
    }
}
