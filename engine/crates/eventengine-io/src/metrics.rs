//! The figures of an engine as Prometheus text.
//!
//! Owns the names of the metrics and their help. Rendered from a sample, so that
//! `/metrics` and `/snapshot` never disagree.

use std::fmt::Write;

use crate::snapshot::{IdentifiersPart, Sample, WATCH_BOUNDS_NANOSECONDS, WatchPart};
use crate::system::{PressurePart, Pressures};

/// Text under construction.
struct Text {
    text: String,
    engine: String,
    pod: String,
}

/// A label value, with what Prometheus wants escaped.
fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.text, "# HELP eventengine_{name} {help}\n# TYPE eventengine_{name} {kind}");
    }

    fn value(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let _ = write!(
            self.text,
            "eventengine_{name}{{engine=\"{}\",pod=\"{}\"",
            escape(&self.engine),
            escape(&self.pod)
        );
        for (label, content) in labels {
            let _ = write!(self.text, ",{label}=\"{}\"", escape(content));
        }
        let _ = writeln!(self.text, "}} {value}");
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl std::fmt::Display) {
        self.family(name, "gauge", help);
        self.value(name, &[], value);
    }

    /// A figure that is absent while it is not known.
    fn known(&mut self, name: &str, kind: &str, help: &str, value: Option<impl std::fmt::Display>) {
        self.family(name, kind, help);
        if let Some(value) = value {
            self.value(name, &[], value);
        }
    }

    fn counter(&mut self, name: &str, help: &str, value: impl std::fmt::Display) {
        self.family(name, "counter", help);
        self.value(name, &[], value);
    }
}

/// Renders a sample.
pub fn render(sample: &Sample) -> String {
    let (engine, pod) = sample.identity_labels();
    let mut text = Text { text: String::with_capacity(16 * 1024), engine, pod };
    render_state(&mut text, sample);
    render_sources(&mut text, sample);
    render_counters(&mut text, sample);
    render_latency(&mut text, sample);
    render_watch(&mut text, "core_stall", "Times in which the core thread did not go on.", &sample.stalls);
    render_watch(&mut text, "rollback", "Rollbacks to what is committed.", &sample.rollbacks);
    render_memory(&mut text, sample);
    render_pressure(&mut text, &sample.pressure);
    render_alerts(&mut text, sample);
    text.text
}

fn render_state(text: &mut Text, sample: &Sample) {
    text.gauge("ready", "Whether the engine takes events.", u8::from(sample.readiness.ready));
    let pool = &sample.buffer_pool;
    text.gauge("buffer_pool_utilisation_ratio", "Share of the pool's chunks in use.", pool.utilisation);
    text.gauge("buffer_pool_chunks", "Chunks of the pool.", pool.chunks);
    text.gauge("buffer_pool_in_use_chunks", "Chunks in use.", pool.in_use);
    text.gauge("buffer_pool_high_water_chunks", "Most chunks ever in use.", pool.high_water);
    text.family("ring_utilisation_ratio", "gauge", "Share of a ring's bound in use.");
    for ring in &sample.rings {
        text.value("ring_utilisation_ratio", &[("ring", &ring.name)], ring.utilisation);
    }
    text.gauge("arena_utilisation_ratio", "Share of the arena's slots in use.", sample.arena.utilisation);
    text.gauge("arena_fragmentation_ratio", "Share of holes among the slots.", sample.arena.fragmentation);
    text.counter(
        "arena_fragmentation_crossings_total",
        "Times that the fragmentation rose above its threshold.",
        sample.arena.fragmentation_crossings,
    );
    text.counter("arena_moved_slots_total", "Slots moved to close holes.", sample.arena.moved_slots);
    text.family("arena_tenant_slots", "gauge", "Slots in use by the source whose events made them.");
    for tenant in &sample.arena.tenants {
        text.value("arena_tenant_slots", &[("source", &tenant.source)], tenant.in_use);
    }
    render_identifiers(text, &sample.identifiers);
    let process = &sample.process;
    text.gauge("pinned", "Whether the core thread is bound to a CPU.", u8::from(process.pinned));
    text.gauge("worker_threads", "Threads that parse beside the core thread.", sample.workers.threads);
    text.gauge("worker_threads_pinned", "Those of them that are bound to a CPU.", sample.workers.pinned);
    text.gauge("exclusive_core", "Whether that CPU is no other container's.", u8::from(process.exclusive));
}

fn render_identifiers(text: &mut Text, identifiers: &IdentifiersPart) {
    text.gauge("identifiers", "Identifiers, such as players, that were seen lately.", identifiers.in_use);
    text.gauge("identifiers_capacity", "Identifiers that there is room for.", identifiers.capacity);
    text.family(
        "identifier_lookups_total",
        "counter",
        "Look-ups of identifiers, by whether they were alive.",
    );
    for (outcome, count) in [("hit", identifiers.hits), ("miss", identifiers.misses)] {
        text.value("identifier_lookups_total", &[("outcome", outcome)], count);
    }
    text.family("identifiers_removed_total", "counter", "Identifiers that expired, or made way while alive.");
    for (reason, count) in [("expired", identifiers.expired), ("evicted", identifiers.evicted)] {
        text.value("identifiers_removed_total", &[("reason", reason)], count);
    }
    text.family("identifier_lookup_seconds", "gauge", "Time of a look-up since the start, by quantile.");
    for (quantile, nanoseconds) in
        [("0.5", identifiers.lookup_p50_nanoseconds), ("0.99", identifiers.lookup_p99_nanoseconds)]
    {
        text.value("identifier_lookup_seconds", &[("quantile", quantile)], nanoseconds as f64 / 1e9);
    }
}

fn render_sources(text: &mut Text, sample: &Sample) {
    text.family("source_connected", "gauge", "Whether the source's origin answers.");
    for source in &sample.sources {
        text.value("source_connected", &[("source", &source.name)], u8::from(source.connected));
    }
    text.family("consumer_lag_events", "gauge", "Last stable offset less position; absent if not fresh.");
    for source in &sample.sources {
        for partition in &source.partitions {
            if let Some(lag) = partition.lag_events {
                let number = partition.partition.to_string();
                let topic = source.topic.as_deref().unwrap_or_default();
                let labels =
                    [("source", source.name.as_str()), ("topic", topic), ("partition", number.as_str())];
                text.value("consumer_lag_events", &labels, lag);
            }
        }
    }
    text.family("source_partitions", "gauge", "Owned partitions by state.");
    for source in &sample.sources {
        for state in ["restoring", "running"] {
            let count = source.partitions.iter().filter(|partition| partition.state == state).count();
            text.value("source_partitions", &[("source", &source.name), ("state", state)], count);
        }
    }
}

fn render_counters(text: &mut Text, sample: &Sample) {
    let counters = &sample.counters;
    text.counter("events_in_total", "Events taken from sources.", counters.events_in);
    let parsed = sample.workers.parsed_events;
    text.counter("events_parsed_by_workers_total", "Events parsed beside the core thread.", parsed);
    text.counter("events_applied_total", "Events applied.", counters.events_applied);
    text.counter("outputs_committed_total", "Outputs in committed transactions.", counters.outputs_committed);
    text.counter("transactions_committed_total", "Committed transactions.", counters.transactions_committed);
    text.counter("transactions_aborted_total", "Aborted transactions.", counters.transactions_aborted);
    text.family("dead_letters_total", "counter", "Refused events by reason.");
    for (reason, count) in &counters.dead_letters {
        text.value("dead_letters_total", &[("reason", reason)], count);
    }
    text.family("parser_fallbacks_total", "counter", "Events that no schema fitted, read by way of a tree.");
    for (source, count) in &counters.parser_fallbacks {
        text.value("parser_fallbacks_total", &[("source", source)], count);
    }
    text.family("shed_events_total", "counter", "Direct events refused under pressure.");
    for (source, classes) in &counters.shed_by_source {
        for (class, count) in classes {
            text.value("shed_events_total", &[("source", source), ("class", class)], count);
        }
    }
    text.family("errors_total", "counter", "Errors by kind.");
    for (kind, count) in &counters.errors {
        text.value("errors_total", &[("kind", kind)], count);
    }
}

fn render_latency(text: &mut Text, sample: &Sample) {
    let latency = &sample.latency;
    text.family("latency_seconds", "gauge", "Ingest to applied over the last seconds, by quantile.");
    for (quantile, nanoseconds) in [
        ("0.5", latency.p50_nanoseconds),
        ("0.99", latency.p99_nanoseconds),
        ("0.999", latency.p999_nanoseconds),
        ("1", latency.max_nanoseconds),
    ] {
        text.value("latency_seconds", &[("quantile", quantile)], nanoseconds as f64 / 1e9);
    }
    let service = latency.service_p99_nanoseconds as f64 / 1e9;
    text.gauge("service_time_p99_seconds", "Time that the program took for an event.", service);
}

/// A kind of duration as a histogram, and how often it exceeded its limit.
fn render_watch(text: &mut Text, name: &str, help: &str, watch: &WatchPart) {
    let histogram = format!("{name}_seconds");
    text.family(&histogram, "histogram", help);
    let bucket = format!("{histogram}_bucket");
    for (bound, count) in WATCH_BOUNDS_NANOSECONDS.iter().zip(watch.within) {
        text.value(&bucket, &[("le", &(*bound as f64 / 1e9).to_string())], count);
    }
    text.value(&bucket, &[("le", "+Inf")], watch.count);
    text.value(&format!("{histogram}_sum"), &[], watch.total_nanoseconds as f64 / 1e9);
    text.value(&format!("{histogram}_count"), &[], watch.count);
    let longest = watch.longest_nanoseconds as f64 / 1e9;
    text.gauge(&format!("{name}_longest_seconds"), "The longest of them since the start.", longest);
    let over = format!("{name}_over_limit_total");
    text.counter(&over, "How many of them exceeded their limit.", watch.over_limit);
}

fn render_memory(text: &mut Text, sample: &Sample) {
    let allocator = &sample.allocator;
    for (name, help, bytes) in [
        ("allocator_allocated_bytes", "Bytes in use by the native half.", allocator.allocated_bytes),
        ("allocator_active_bytes", "Bytes in pages in use.", allocator.active_bytes),
        ("allocator_resident_bytes", "Bytes in memory.", allocator.resident_bytes),
        ("allocator_retained_bytes", "Bytes kept as address space.", allocator.retained_bytes),
        ("process_resident_bytes", "Resident memory of the process.", sample.process.rss_bytes),
    ] {
        text.known(name, "gauge", help, bytes);
    }
    text.known(
        "core_thread_allocated_bytes_total",
        "counter",
        "Bytes that the core thread allocated since it warmed up.",
        allocator.core_thread_allocated_bytes,
    );
    text.family("thread_allocations_total", "counter", "Allocations of a thread of the native half.");
    for thread in &allocator.threads {
        text.value("thread_allocations_total", &[("thread", &thread.name)], thread.allocations);
    }
    text.family(
        "thread_allocated_bytes_total",
        "counter",
        "Bytes that a thread of the native half asked for.",
    );
    for thread in &allocator.threads {
        text.value("thread_allocated_bytes_total", &[("thread", &thread.name)], thread.allocated_bytes);
    }
    let growth = sample.process.rss_growth;
    let help = "Growth of resident memory over monitoring.rssFlatnessWindow; absent until that is over.";
    text.known("process_resident_growth_bytes", "gauge", help, growth.map(|growth| growth.growth_bytes));
    let help = "The same as a share of the memory at the window's beginning.";
    text.known("process_resident_growth_ratio", "gauge", help, growth.map(|growth| growth.growth_ratio));
    let written = sample.counters.heap_profiles_written;
    text.counter("heap_profiles_written_total", "Heap profiles written.", written);
}

fn render_pressure(text: &mut Text, pressure: &PressurePart) {
    let of =
        |pressures: &Pressures| [("cpu", pressures.cpu), ("memory", pressures.memory), ("io", pressures.io)];
    let scopes = [("cgroup", of(&pressure.cgroup)), ("machine", of(&pressure.machine))];
    let figures: Vec<_> = scopes
        .into_iter()
        .flat_map(|(scope, resources)| resources.map(|(resource, figures)| (scope, resource, figures)))
        .filter_map(|(scope, resource, figures)| Some((scope, resource, figures?)))
        .collect();
    text.family(
        "pressure_ratio",
        "gauge",
        "Share of the last ten seconds in which some or all (full) tasks waited for a resource (PSI).",
    );
    for (scope, resource, figures) in &figures {
        for (share, percent) in [("some", Some(figures.some_avg10)), ("full", figures.full_avg10)] {
            if let Some(percent) = percent {
                let labels = [("scope", *scope), ("resource", *resource), ("share", share)];
                text.value("pressure_ratio", &labels, percent / 100.0);
            }
        }
    }
    text.family(
        "pressure_seconds_total",
        "counter",
        "Time in which some or all (full) tasks waited for a resource (PSI).",
    );
    for (scope, resource, figures) in &figures {
        let totals =
            [("some", Some(figures.some_total_microseconds)), ("full", figures.full_total_microseconds)];
        for (share, microseconds) in totals {
            if let Some(microseconds) = microseconds {
                let labels = [("scope", *scope), ("resource", *resource), ("share", share)];
                text.value("pressure_seconds_total", &labels, microseconds as f64 / 1e6);
            }
        }
    }
}

fn render_alerts(text: &mut Text, sample: &Sample) {
    text.family("alerts_total", "counter", "Times that a limit of monitoring was crossed, by alert.");
    for (name, alert) in &sample.alerts {
        text.value("alerts_total", &[("alert", name)], alert.total);
    }
}
