//! The native half's log: one line a message on standard error, in the form of the Python half's lines.
//!
//! Owns the format, the least level, the bound on lines and the hiding of secrets. JSON: time (RFC 3339, UTC, with
//! milliseconds), level, logger, message, then the record's fields. Text: the same, for people. Until somebody says
//! otherwise it is text on a terminal and JSON in a pipe, as the Python half chooses. Each line is one write, so that
//! lines of both halves never mix. Never writes payloads, and never a value that was given to [`hide`].

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Map, Value};

use crate::clock;
use crate::shared::lock;

/// Lines a second at most; what is above is counted and said with the next line.
const LINES_PER_SECOND: u32 = 20;

/// Secrets that are remembered at most: more than the properties of all sources and sinks.
const SECRETS_MAX: usize = 2048;

/// Shorter values are no secrets, and hiding them would make the log unreadable.
const SECRET_BYTES_MIN: usize = 4;

/// What stands in place of a secret.
const HIDDEN: &str = "(hidden)";

/// Parts of the names of properties whose values are secrets.
const SECRET_MARKS: [&str; 4] = [".password", "secret", "jaas", ".pem"];

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For whoever looks for a fault.
    Debug,
    /// What normally happens.
    Info,
    /// What somebody may have to look at.
    Warning,
    /// What went wrong.
    Error,
}

impl Level {
    /// The level of a name.
    pub fn from_name(name: &str) -> Option<Level> {
        [Level::Debug, Level::Info, Level::Warning, Level::Error]
            .into_iter()
            .find(|level| level.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warning => "warning",
            Level::Error => "error",
        }
    }
}

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

impl Form {
    /// The form of a name.
    pub fn from_name(name: &str) -> Option<Form> {
        match name {
            "json" => Some(Form::Json),
            "text" => Some(Form::Text),
            _ => None,
        }
    }

    fn of_standard_error() -> Form {
        if std::io::stderr().is_terminal() { Form::Text } else { Form::Json }
    }
}

/// One line as JSON; the order of the fields is the Python half's.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    level: &'static str,
    logger: String,
    message: &'a str,
    #[serde(flatten)]
    fields: Map<String, Value>,
}

/// Names that a record's own fields can't take.
const FIXED_NAMES: [&str; 4] = ["time", "level", "logger", "message"];

struct Log {
    least: Level,
    form: Option<Form>,
    secrets: Vec<String>,
    bound: Bound,
}

#[derive(Default)]
struct Bound {
    second: Option<Instant>,
    lines: u32,
    left_out: u64,
}

impl Bound {
    /// Whether a line may be written now, and how many were left out before it.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        if self.second.is_none_or(|second| now.duration_since(second) >= Duration::from_secs(1)) {
            self.second = Some(now);
            self.lines = 0;
        }
        if self.lines >= LINES_PER_SECOND {
            self.left_out += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

static LOG: Mutex<Log> = Mutex::new(Log {
    least: Level::Info,
    form: None,
    secrets: Vec::new(),
    bound: Bound { second: None, lines: 0, left_out: 0 },
});

/// Says from which level on lines are written, and how they look.
pub fn set_up(least: Level, form: Form) {
    let mut log = lock(&LOG);
    log.least = least;
    log.form = Some(form);
}

/// From now on the values of those properties that look like secrets stand in no line.
pub fn hide<'a>(properties: impl IntoIterator<Item = (&'a String, &'a String)>) {
    let mut log = lock(&LOG);
    for (name, value) in properties {
        if is_secret(name, value) && log.secrets.len() < SECRETS_MAX && !log.secrets.contains(value) {
            log.secrets.push(value.clone());
        }
    }
}

/// A text without the values that were given to [`hide`].
pub fn without_secrets(text: &str) -> String {
    replace_secrets(text, &lock(&LOG).secrets)
}

/// Writes what normally happens.
pub fn info(component: &str, message: &str) {
    write(Level::Info, component, message, Map::new());
}

/// Writes what somebody may have to look at.
pub fn warning(component: &str, message: &str) {
    write(Level::Warning, component, message, Map::new());
}

/// Writes what went wrong.
pub fn error(component: &str, message: &str) {
    write(Level::Error, component, message, Map::new());
}

/// Writes a line of a component with fields of its own.
pub fn write(level: Level, component: &str, message: &str, mut fields: Map<String, Value>) {
    let (form, message) = {
        let mut log = lock(&LOG);
        if level < log.least {
            return;
        }
        let Some(left_out) = log.bound.admit(Instant::now()) else { return };
        if left_out > 0 {
            fields.insert("lines_left_out".to_owned(), left_out.into());
        }
        (*log.form.get_or_insert_with(Form::of_standard_error), replace_secrets(message, &log.secrets))
    };
    let line = render(form, clock::wall_nanoseconds(), level, component, &message, fields);
    // A closed standard error is no reason to stop an engine.
    let _ = std::io::stderr().write_all(line.as_bytes());
}

fn is_secret(name: &str, value: &str) -> bool {
    value.len() >= SECRET_BYTES_MIN && SECRET_MARKS.iter().any(|mark| name.contains(mark))
}

fn replace_secrets(text: &str, secrets: &[String]) -> String {
    secrets.iter().fold(text.to_owned(), |text, secret| {
        if text.contains(secret) { text.replace(secret, HIDDEN) } else { text }
    })
}

fn render(
    form: Form,
    wall_nanoseconds: u128,
    level: Level,
    component: &str,
    message: &str,
    mut fields: Map<String, Value>,
) -> String {
    let time = clock::rfc3339_milliseconds(wall_nanoseconds);
    match form {
        Form::Json => {
            fields.retain(|name, _| !FIXED_NAMES.contains(&name.as_str()));
            let logger = format!("eventengine.native.{component}");
            let line = Line { time, level: level.name(), logger, message, fields };
            // Texts and numbers can always be written as JSON.
            serde_json::to_string(&line).unwrap_or_default() + "\n"
        }
        Form::Text => {
            let mut line = format!(
                "{time} {:<7} {} component={component}",
                level.name(),
                message.replace(['\n', '\r'], " ")
            );
            for (name, value) in fields {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                let quoted = text.is_empty() || text.contains(char::is_whitespace);
                let _ = if quoted {
                    write!(line, " {name}={}", Value::String(text))
                } else {
                    write!(line, " {name}={text}")
                };
            }
            line.push('\n');
            line
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: u128 = 1_795_255_200_042_999_999;

    fn fields(pairs: &[(&str, Value)]) -> Map<String, Value> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    }

    #[test]
    fn a_line_is_one_json_object_of_the_python_halfs_form() {
        let line = render(
            Form::Json,
            MOMENT,
            Level::Warning,
            "source",
            "not ready:\n\"away\"",
            fields(&[("partition", 7.into()), ("level", "mine".into())]),
        );
        assert_eq!(
            line,
            "{\"time\":\"2026-11-21T10:00:00.042Z\",\"level\":\"warning\",\
             \"logger\":\"eventengine.native.source\",\"message\":\"not ready:\\n\\\"away\\\"\",\
             \"partition\":7}\n"
        );
    }

    #[test]
    fn text_is_one_line_and_quotes_what_holds_spaces() {
        let pairs = [("alert", "core_stall".into()), ("longest", "7 ms".into()), ("count", 3.into())];
        let line = render(Form::Text, MOMENT, Level::Info, "core", "two\nlines", fields(&pairs));
        assert_eq!(
            line,
            "2026-11-21T10:00:00.042Z info    two lines component=core alert=core_stall count=3 longest=\"7 ms\"\n"
        );
    }

    #[test]
    fn the_values_of_secret_properties_stand_in_no_line() {
        let names = [
            "sasl.password",
            "ssl.key.password",
            "sasl.oauthbearer.client.secret",
            "ssl.key.pem",
            "sasl.jaas.config",
        ];
        for name in names {
            assert!(is_secret(name, "hunter22"), "{name}");
        }
        assert!(!is_secret("security.protocol", "SASL_SSL"));
        assert!(!is_secret("sasl.password", "abc"), "too short to be looked for in a text");
        let secrets = ["hunter22".to_owned()];
        assert_eq!(
            replace_secrets("No provider for hunter22, hunter22 or hunter", &secrets),
            "No provider for (hidden), (hidden) or hunter"
        );
    }

    #[test]
    fn lines_have_a_bound_a_second_and_what_was_left_out_is_told() {
        let mut bound = Bound::default();
        let begun = Instant::now();
        let admitted = (0..50).filter(|_| bound.admit(begun).is_some()).count();
        assert_eq!(admitted, LINES_PER_SECOND as usize);
        assert_eq!(bound.admit(begun + Duration::from_secs(1)), Some(30));
        assert_eq!(bound.admit(begun + Duration::from_secs(1)), Some(0));
    }

    #[test]
    fn levels_and_forms_have_the_names_of_the_command_line() {
        for name in ["debug", "info", "warning", "error"] {
            assert_eq!(Level::from_name(name).map(Level::name), Some(name));
        }
        assert_eq!(Form::from_name("json"), Some(Form::Json));
        assert_eq!(Form::from_name("text"), Some(Form::Text));
        assert_eq!((Level::from_name("loud"), Form::from_name("xml")), (None, None));
        assert!(Level::Error > Level::Warning && Level::Info > Level::Debug);
    }
}
