//! The topics that an engine needs: found, counted and, where missing, created.

use std::ffi::CStr;
use std::time::Duration;

use super::bootstrap;
use super::client::{Client, KafkaError, Properties};
use crate::config::{Config, KafkaSource};

const TIMEOUT: Duration = Duration::from_secs(5);

/// Why the topics can't be used.
#[derive(Debug)]
pub enum TopicError {
    /// Worth trying again.
    Passing(KafkaError),
    /// Wrong until somebody changes it.
    Wrong(String),
}

impl From<KafkaError> for TopicError {
    fn from(error: KafkaError) -> TopicError {
        TopicError::Passing(error)
    }
}

/// Properties that every client of the engine has, with the user's own over them.
pub fn client_properties(
    bootstrap_servers: &[String],
    own: &std::collections::BTreeMap<String, String>,
) -> Properties {
    let mut properties = Properties::new();
    for (name, value) in [
        ("reconnect.backoff.ms", "100"),
        ("reconnect.backoff.max.ms", "2000"),
        ("socket.connection.setup.timeout.ms", "5000"),
        ("topic.metadata.refresh.interval.ms", "60000"),
        ("client.id", "eventengine"),
        bootstrap::STATISTICS_INTERVAL,
    ] {
        properties.insert(name.to_owned(), value.to_owned());
    }
    for (name, value) in own {
        properties.insert(name.clone(), value.clone());
    }
    properties.insert("bootstrap.servers".to_owned(), bootstrap_servers.join(","));
    properties
}

/// Finds the source topic and makes sure that the others exist. Answers the source's partition count.
pub fn prepare(client: &Client, config: &Config, source: &KafkaSource) -> Result<usize, TopicError> {
    let partitions = client
        .partition_count(&client.topic(&source.topic)?, TIMEOUT)?
        .filter(|count| *count > 0)
        .ok_or_else(|| {
            KafkaError::other(format!("the source topic {:?} does not exist yet", source.topic))
        })?;
    if partitions > eventengine_core::core::KAFKA_PARTITIONS_MAX {
        return Err(TopicError::Wrong(format!(
            "the source topic {:?} has {partitions} partitions; at most {} are supported",
            source.topic,
            eventengine_core::core::KAFKA_PARTITIONS_MAX
        )));
    }
    let changelog = &config.changelog.topic;
    let compacted: &[(&CStr, &CStr)] = &[(c"cleanup.policy", c"compact")];
    let found = ensure(client, changelog, partitions, compacted)?;
    if found != partitions {
        return Err(TopicError::Wrong(format!(
            "the changelog topic {changelog:?} has {found} partitions and the source topic {:?} has {partitions}; \
             state is kept per partition, so the counts must be equal: name another changelog topic",
            source.topic
        )));
    }
    ensure(client, &config.dead_letter.topic, partitions, &[])?;
    if let Some(sink) = config.kafka_sink() {
        ensure(client, &sink.topic, partitions, &[])?;
    }
    Ok(partitions)
}

/// Makes sure that the topics of an engine without a Kafka source exist.
pub fn prepare_outputs(client: &Client, config: &Config) -> Result<(), TopicError> {
    ensure(client, &config.dead_letter.topic, 1, &[])?;
    if let Some(sink) = config.kafka_sink() {
        ensure(client, &sink.topic, eventengine_core::core::DIRECT_PARTITIONS, &[])?;
    }
    Ok(())
}

/// Partitions of a topic, which is created if it is missing.
fn ensure(
    client: &Client,
    topic: &str,
    partitions: usize,
    settings: &[(&CStr, &CStr)],
) -> Result<usize, TopicError> {
    let handle = client.topic(topic)?;
    if let Some(count) = client.partition_count(&handle, TIMEOUT)?.filter(|count| *count > 0) {
        return Ok(count);
    }
    client
        .create_topic(topic, partitions, settings, TIMEOUT)
        .map_err(|error| KafkaError { message: format!("creating the topic {topic:?}: {error}"), ..error })?;
    let count = client.partition_count(&handle, TIMEOUT)?.filter(|count| *count > 0);
    Ok(count.ok_or_else(|| {
        KafkaError::other(format!("the topic {topic:?} was created and is not known everywhere yet"))
    })?)
}
