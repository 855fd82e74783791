import com.fasterxml.jackson.databind.*;
import java.time.*;
import java.util.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.*;

/** The limit service of limit_service.py with the stock client: java LimitService SERVERS TOPIC [--until-end].
 *  Its shares are in memory: whoever keeps them keeps the offsets beside them, in one transaction. */
public class LimitService {
    static final double HIGH = 0.20, LOW = 0.10, FULL = 1.0, REDUCED = 0.5;
    static final int DAILY_CAP = 1000;
    static final Duration STALE = Duration.ofHours(24);

    record Share(double share, String scoreId, long sequence, String model, LocalDate changedOn) {}

    static final Map<String, Share> shares = new HashMap<>();
    static LocalDate today = LocalDate.MIN;
    static int changedToday = 0;

    static double wantedShare(double share, double score) {
        return score >= HIGH ? REDUCED : score < LOW ? FULL : share;
    }

    static void count(String user, JsonNode score, Instant published) {
        Share own = shares.getOrDefault(user, new Share(FULL, "", 0, "", LocalDate.MIN));
        String id = score.get("score_id").asText(), model = score.get("model").asText();
        long sequence = score.get("sequence").asLong();
        if (own.scoreId().equals(id) || own.model().equals(model) && own.sequence() >= sequence) return; // a repeat
        LocalDate now = LocalDate.now(ZoneOffset.UTC);
        if (!now.equals(today)) { today = now; changedToday = 0; }
        double share = wantedShare(own.share(), score.get("score").asDouble());
        boolean stale = Duration.between(published, Instant.now()).compareTo(STALE) > 0;
        if (stale || own.changedOn().equals(today) || changedToday >= DAILY_CAP) share = own.share();
        boolean changes = share != own.share();
        if (changes) {
            changedToday++;
            System.out.printf(Locale.ROOT, "{\"user_id\": \"%s\", \"share\": %.1f, \"score_id\": \"%s\"}%n", user, share, id);
        }
        shares.put(user, new Share(share, id, sequence, model, changes ? today : own.changedOn()));
    }

    public static void main(String[] arguments) throws Exception {
        boolean untilEnd = List.of(arguments).contains("--until-end");
        Map<String, Object> config = Map.of("bootstrap.servers", arguments[0], "isolation.level", "read_committed",
            "enable.auto.commit", false, "auto.offset.reset", "earliest");
        var json = new ObjectMapper();
        try (var consumer = new KafkaConsumer<>(config, new StringDeserializer(), new ByteArrayDeserializer())) {
            var partitions = consumer.partitionsFor(arguments[1]).stream()
                .map(each -> new TopicPartition(each.topic(), each.partition())).toList();
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            var ends = consumer.endOffsets(partitions);
            while (!untilEnd || partitions.stream().anyMatch(each -> consumer.position(each) < ends.get(each)))
                for (var record : consumer.poll(Duration.ofMillis(500)))
                    if (record.value() == null) shares.remove(record.key()); // a tombstone: the borrower is forgotten
                    else count(record.key(), json.readTree(record.value()), Instant.ofEpochMilli(record.timestamp()));
        }
    }
}
