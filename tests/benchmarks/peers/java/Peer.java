import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.ObjectReader;
import com.lmax.disruptor.EventHandler;
import com.lmax.disruptor.RingBuffer;
import com.lmax.disruptor.YieldingWaitStrategy;
import com.lmax.disruptor.dsl.Disruptor;
import com.lmax.disruptor.dsl.ProducerType;
import java.io.IOException;
import java.lang.management.GarbageCollectorMXBean;
import java.lang.management.ManagementFactory;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ThreadFactory;
import java.util.concurrent.TimeUnit;
import org.HdrHistogram.Histogram;
import org.HdrHistogram.HistogramIterationValue;

/**
 * The Java peer: a Disruptor of 2^16 preallocated events between the injecting thread and one handler that owns the
 * state; payloads are bound by Jackson's data binding.
 *
 * <p>It prints the document that every measured system prints, and takes the same arguments; tests/benchmarks/native
 * has the reference of both, and of the schedule.
 */
public final class Peer {
    private static final int RING_SLOTS = 1 << 16;
    private static final int PAYLOAD_BYTES_MAX = 1024;
    private static final long SECOND = TimeUnit.SECONDS.toNanos(1);
    private static final long LONGEST = TimeUnit.MINUTES.toNanos(1);
    private static final long BEHIND_MAX = SECOND;

    /** A slot of the ring. */
    private static final class Slot {
        final byte[] payload = new byte[PAYLOAD_BYTES_MAX];
        int length;
        long intended;
    }

    /** When events are due: in each period a burst at its begin, the rest evenly. */
    private record Schedule(long period, long events, long burst) {
        static Schedule of(long rate, long burst, long periodMilliseconds) {
            long period = TimeUnit.MILLISECONDS.toNanos(periodMilliseconds);
            long events = rate * period / SECOND;
            return new Schedule(period, events, Math.min(burst, events));
        }

        long eventsIn(long seconds) {
            return events * (seconds * SECOND / period);
        }

        long due(long event) {
            long start = event / events * period;
            long place = event % events;
            return place < burst ? start : start + (place - burst) * period / (events - burst);
        }
    }

    /** Owns the state; runs on the Disruptor's thread. */
    private static final class Worker implements EventHandler<Slot> {
        private final ObjectReader reader =
                new ObjectMapper()
                        .disable(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES)
                        .readerFor(Hunt.Event.class);
        private final Hunt hunt = new Hunt();
        private final Hunt.Text output = new Hunt.Text();
        Histogram latency = new Histogram(LONGEST, 3);
        long refused;
        long outputBytes;
        long finished;
        volatile long completed;

        @Override
        public void onEvent(Slot slot, long sequence, boolean endOfBatch) {
            boolean applied = false;
            output.clear();
            try {
                Hunt.Event event = reader.readValue(slot.payload, 0, slot.length);
                applied = hunt.apply(event, output);
            } catch (IOException error) {
                // Counted as refused below.
            }
            if (applied) {
                outputBytes += output.length();
            } else {
                refused++;
            }
            finished = System.nanoTime();
            latency.recordValue(Math.min(Math.max(finished - slot.intended, 1), LONGEST));
            completed++;
        }

        void reset() {
            latency = new Histogram(LONGEST, 3);
            refused = 0;
            outputBytes = 0;
            completed = 0;
        }
    }

    private final List<byte[]> payloads;
    private final RingBuffer<Slot> ring;
    private final Worker worker;
    private int next;
    private long offered;
    private boolean overrun;
    private long elapsed;

    private Peer(List<byte[]> payloads, RingBuffer<Slot> ring, Worker worker) {
        this.payloads = payloads;
        this.ring = ring;
        this.worker = worker;
    }

    private void send(long intended) {
        byte[] payload = payloads.get(next);
        next = next + 1 == payloads.size() ? 0 : next + 1;
        long sequence = ring.next();
        Slot slot = ring.get(sequence);
        System.arraycopy(payload, 0, slot.payload, 0, payload.length);
        slot.length = payload.length;
        slot.intended = intended;
        ring.publish(sequence);
    }

    private void measure(Schedule schedule, long seconds) {
        worker.reset();
        offered = 0;
        long begin = System.nanoTime();
        if (schedule.events() == 0) {
            for (long end = begin + seconds * SECOND; System.nanoTime() < end; offered++) {
                send(System.nanoTime());
            }
        } else {
            for (long total = schedule.eventsIn(seconds); offered < total && !overrun; offered++) {
                long intended = begin + schedule.due(offered);
                while (System.nanoTime() < intended) {
                    Thread.onSpinWait();
                }
                overrun = System.nanoTime() - intended > BEHIND_MAX;
                send(intended);
            }
        }
        while (worker.completed < offered) {
            Thread.onSpinWait();
        }
        elapsed = worker.finished - begin;
    }

    private static List<byte[]> read(Path file) throws IOException {
        List<byte[]> payloads = new ArrayList<>();
        for (String line : Files.readAllLines(file, StandardCharsets.UTF_8)) {
            payloads.add(line.getBytes(StandardCharsets.UTF_8));
        }
        return payloads;
    }

    private static long statusBytes(String name) throws IOException {
        for (String line : Files.readAllLines(Path.of("/proc/self/status"))) {
            if (line.startsWith(name + ":")) {
                return Long.parseLong(line.replaceAll("[^0-9]", "")) * 1024;
            }
        }
        return 0;
    }

    private static Map<String, Object> document(Histogram histogram) {
        List<long[]> counts = new ArrayList<>();
        for (HistogramIterationValue value : histogram.recordedValues()) {
            counts.add(new long[] {value.getValueIteratedTo(), value.getCountAtValueIteratedTo()});
        }
        return Map.of("counts", counts, "max", histogram.getMaxValue());
    }

    public static void main(String[] words) throws Exception {
        Map<String, String> arguments = new HashMap<>();
        for (int index = 0; index + 1 < words.length; index += 2) {
            arguments.put(words[index].substring(2), words[index + 1]);
        }
        long seconds = Long.parseLong(arguments.getOrDefault("seconds", "1"));
        Schedule schedule =
                Schedule.of(
                        Long.parseLong(arguments.getOrDefault("rate", "0")),
                        Long.parseLong(arguments.getOrDefault("burst", "0")),
                        Long.parseLong(arguments.getOrDefault("period", "10")));
        Worker worker = new Worker();
        ThreadFactory threads = body -> new Thread(body, "worker");
        Disruptor<Slot> disruptor =
                new Disruptor<>(Slot::new, RING_SLOTS, threads, ProducerType.SINGLE, new YieldingWaitStrategy());
        disruptor.handleEventsWith(worker);
        disruptor.start();
        Peer peer = new Peer(read(Path.of(arguments.get("file"))), disruptor.getRingBuffer(), worker);
        peer.measure(schedule, Long.parseLong(arguments.getOrDefault("warmup", "1")));
        if (!peer.overrun) {
            peer.measure(schedule, seconds);
        }
        long collections = 0;
        for (GarbageCollectorMXBean collector : ManagementFactory.getGarbageCollectorMXBeans()) {
            collections += Math.max(collector.getCollectionCount(), 0);
        }
        Map<String, Object> document = new HashMap<>();
        document.put("profile", "release");
        document.put("system", "java");
        document.put("runtime", System.getProperty("java.runtime.version"));
        document.put("offered", peer.offered);
        document.put("completed", worker.completed);
        document.put("refused", worker.refused);
        document.put("output_bytes", worker.outputBytes);
        document.put("elapsed_nanoseconds", peer.elapsed);
        document.put("seconds", seconds);
        document.put("overrun", peer.overrun);
        document.put("latency", document(worker.latency));
        document.put("peak_rss_bytes", statusBytes("VmHWM"));
        document.put("collections", collections);
        System.out.println(new ObjectMapper().writeValueAsString(document));
        disruptor.shutdown();
    }
}
