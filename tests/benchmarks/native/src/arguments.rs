//! Arguments of the form `--name value`.

use std::collections::BTreeMap;
use std::str::FromStr;

use crate::refuse;

/// The arguments of this program.
#[derive(Debug, Default)]
pub struct Arguments(BTreeMap<String, String>);

impl Arguments {
    /// Reads the process' arguments; ends the program if they aren't pairs.
    pub fn read() -> Arguments {
        let mut found = BTreeMap::new();
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let Some(name) = word.strip_prefix("--") else {
                refuse(&format!("{word}: arguments have the form --name value"));
            };
            let Some(value) = words.next() else { refuse(&format!("--{name} needs a value")) };
            found.insert(name.to_owned(), value);
        }
        Arguments(found)
    }

    /// A value, or the default if it isn't given; ends the program if it can't be read.
    pub fn get<T: FromStr>(&self, name: &str, default: T) -> T {
        self.0.get(name).map_or(default, |text| parse(name, text))
    }

    /// A value that has to be there; ends the program if it isn't.
    pub fn require<T: FromStr>(&self, name: &str) -> T {
        match self.0.get(name) {
            Some(text) => parse(name, text),
            None => refuse(&format!("--{name} is missing")),
        }
    }
}

fn parse<T: FromStr>(name: &str, text: &str) -> T {
    text.parse().unwrap_or_else(|_| refuse(&format!("--{name} {text}: not a value of the right kind")))
}
