// Read.java -- what a consumer of Java sees of a topic, with isolation.level=read_committed.
// SPDX-License-Identifier: MIT
//
//    java Read.java BROKERS TOPIC    prints partition, key and the header `id` of each record

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.List;
import java.util.Properties;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;

class Read {
    public static void main(String[] args) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", args[0]);
        properties.put("isolation.level", "read_committed");
        properties.put("key.deserializer", StringDeserializer.class.getName());
        properties.put("value.deserializer", StringDeserializer.class.getName());
        try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(properties)) {
            List<TopicPartition> all = consumer.partitionsFor(args[1]).stream()
                .map(p -> new TopicPartition(p.topic(), p.partition()))
                .collect(Collectors.toList());
            consumer.assign(all);
            consumer.seekToBeginning(all);
            var ends = consumer.endOffsets(all);
            while (all.stream().anyMatch(p -> consumer.position(p) < ends.get(p)))
                for (ConsumerRecord<String, String> r : consumer.poll(Duration.ofMillis(100)))
                    System.out.println(r.partition() + "\t" + r.key() + "\t" + new String(
                        r.headers().lastHeader("id").value(), StandardCharsets.UTF_8));
        }
    }
}
