// Admin.java -- what an administrator does to a cluster.
// SPDX-License-Identifier: MIT
//
//    java Admin.java BROKERS COMMAND...
//
// Commands, each of which is a word:
//    topic,NAME,PARTITIONS[,CONFIG=VALUE]    makes a topic
//    set,NAME,CONFIG=VALUE                   changes it
//    grow,NAME,PARTITIONS                    gives it more partitions
//    drop,NAME                               takes it away
//    forget,GROUP                            takes away a group, with its offsets
//    offsets,GROUP                           prints "topic partition offset" for each that it has
//    user,NAME,PASSWORD                      makes a user, for SCRAM-SHA-512
//    allow,USER,KIND,NAME,OPERATION          KIND: topic, group, transactional_id, cluster; NAME:
//    forbid,USER,KIND,NAME,OPERATION         with * at its end, all that begins so

import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.ScramCredentialInfo;
import org.apache.kafka.clients.admin.ScramMechanism;
import org.apache.kafka.clients.admin.UserScramCredentialUpsertion;
import org.apache.kafka.common.acl.AccessControlEntry;
import org.apache.kafka.common.acl.AclBinding;
import org.apache.kafka.common.acl.AclOperation;
import org.apache.kafka.common.acl.AclPermissionType;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.resource.PatternType;
import org.apache.kafka.common.resource.ResourcePattern;
import org.apache.kafka.common.resource.ResourceType;

class Main {
    static void topic(Admin admin, String[] words) throws Exception {
        NewTopic topic = new NewTopic(words[1], Optional.of(Integer.parseInt(words[2])),
            Optional.empty());
        if (words.length > 3)
            topic.configs(Map.of(words[3].split("=")[0], words[3].split("=")[1]));
        admin.createTopics(List.of(topic)).all().get();
    }

    static void set(Admin admin, String[] words) throws Exception {
        var entry = new ConfigEntry(words[2].split("=")[0], words[2].split("=")[1]);
        admin.incrementalAlterConfigs(Map.of(
            new ConfigResource(ConfigResource.Type.TOPIC, words[1]),
            List.of(new AlterConfigOp(entry, AlterConfigOp.OpType.SET)))).all().get();
    }

    static void offsets(Admin admin, String group) throws Exception {
        admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().forEach(
            (place, at) -> System.out.println(place.topic() + " " + place.partition() + " "
                + at.offset()));
    }

    static void user(Admin admin, String[] words) throws Exception {
        admin.alterUserScramCredentials(List.of(new UserScramCredentialUpsertion(words[1],
            new ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096), words[2]))).all().get();
    }

    static void acl(Admin admin, String[] words) throws Exception {
        boolean isPrefix = words[3].endsWith("*") && words[3].length() > 1;
        var pattern = new ResourcePattern(ResourceType.fromString(words[2]),
            isPrefix ? words[3].substring(0, words[3].length() - 1) : words[3],
            isPrefix ? PatternType.PREFIXED : PatternType.LITERAL);
        var binding = new AclBinding(pattern, new AccessControlEntry("User:" + words[1], "*",
            AclOperation.fromString(words[4]), AclPermissionType.ALLOW));
        if (words[0].equals("allow"))
            admin.createAcls(List.of(binding)).all().get();
        else
            admin.deleteAcls(List.of(binding.toFilter())).all().get();
    }

    public static void main(String[] args) throws Exception {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", args[0]);
        try (Admin admin = Admin.create(properties)) {
            for (int i = 1; i < args.length; i++) {
                String[] words = args[i].split(",");
                switch (words[0]) {
                    case "topic" -> topic(admin, words);
                    case "set" -> set(admin, words);
                    case "grow" -> admin.createPartitions(Map.of(words[1],
                        NewPartitions.increaseTo(Integer.parseInt(words[2])))).all().get();
                    case "drop" -> admin.deleteTopics(List.of(words[1])).all().get();
                    case "forget" -> admin.deleteConsumerGroups(List.of(words[1])).all().get();
                    case "offsets" -> offsets(admin, words[1]);
                    case "user" -> user(admin, words);
                    default -> acl(admin, words);
                }
            }
        }
    }
}
