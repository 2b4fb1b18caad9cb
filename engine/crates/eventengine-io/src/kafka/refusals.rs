//! What is to be done about a refusal of the brokers, for whoever declared the engine.
//!
//! Owns the sentence that readiness shows: which brokers refused whom, why, and the remedy. What passes by
//! itself has none. Never names a password.

use rdkafka_sys::rd_kafka_resp_err_t as Code;

use super::client::KafkaError;
use crate::config::Config;

/// The whole of it.
pub fn sentence(brokers: &str, error: &KafkaError, config: &Config) -> String {
    match remedy(error.code, config) {
        Some(remedy) => format!("{brokers}: {error}; {remedy}"),
        None => format!("{brokers}: {error}"),
    }
}

/// Whether somebody has to do something about it.
pub fn is_refusal(code: Code, config: &Config) -> bool {
    remedy(code, config).is_some()
}

fn remedy(code: Code, config: &Config) -> Option<String> {
    let group = config.kafka_source().map_or(config.name.as_str(), |(_, _, kafka)| kafka.group_id.as_str());
    match code {
        Code::RD_KAFKA_RESP_ERR__AUTHENTICATION | Code::RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED => {
            Some("correct username and password of the credentials, or sasl.mechanism".to_owned())
        }
        Code::RD_KAFKA_RESP_ERR__SSL => Some(
            "put the authority of the brokers' certificates into ca.crt of the credentials, and a certificate that \
             they trust into tls.crt and tls.key if they ask for one"
                .to_owned(),
        ),
        Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED
        | Code::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED => Some(allowances(config)),
        Code::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED => {
            Some(format!("allow the user to Read the group {group}"))
        }
        Code::RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED => {
            Some(format!("allow the user to Write the transactional ids that begin with {group}-"))
        }
        _ => None,
    }
}

/// What the engine's user needs of its topics.
fn allowances(config: &Config) -> String {
    let mut written = vec![config.dead_letter.topic.as_str()];
    written.extend(config.kafka_sink().map(|sink| sink.topic.as_str()));
    let written = written.join(", ");
    let read = config.kafka_source().map_or_else(String::new, |(_, _, kafka)| {
        format!("Read on topic {}, Read and Write on {}, ", kafka.topic, config.changelog.topic)
    });
    format!("allow the user {read}Write on {written}, and Create on those of the last that don't exist")
}
