//! Values the user declares as secret, searched for in every encoding they commonly travel in.

mod forms;
mod noise;
mod scan;

pub(super) use noise::looks_random;
pub(super) use scan::{Cursor, Payload, Scanner};

use super::class::Class;
use super::finding::Leak;
use std::fmt;

/// Most secrets one policy may declare.
pub const MAX_SECRETS: usize = 256;
/// Shortest and longest value, in bytes. A shorter one occurs by chance in ordinary traffic.
pub const MIN_VALUE: usize = 4;
/// Longest value, in bytes.
pub const MAX_VALUE: usize = 256;
/// Longest name, in bytes.
pub const MAX_NAME: usize = 64;

/// The leak that a declared secret is.
pub(super) const SECRET: Leak = Leak::new("secret", Class::PersonId, "a value declared as secret");

/// What a declared value is, which decides in which forms it is searched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Told from the value's look: six bytes in hexadecimal are a hardware address, digits a number, and so on.
    #[default]
    Guess,
    /// A word, name or mail address.
    Text,
    /// A decimal number (account, room, IMEI); may be searched as a binary integer too.
    Number,
    /// A telephone number, also without its country code.
    Phone,
    /// A hardware address of six bytes.
    Mac,
    /// A UUID.
    Uuid,
}

/// A value that must not leave in the clear. Its `Debug` form shows the name only.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    name: String,
    value: String,
    kind: Kind,
    class: Class,
}

/// Why a declared secret cannot be searched for. Names the secret, never its value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// More than [`MAX_SECRETS`].
    #[error("{0} secrets are declared; at most {MAX_SECRETS} can be searched for")]
    TooMany(usize),
    /// The name is empty, longer than [`MAX_NAME`] bytes or not printable.
    #[error("a secret's name must be 1 to {MAX_NAME} printable bytes")]
    BadName,
    /// Two secrets of one name.
    #[error("the secret `{0}` is declared twice")]
    Duplicate(String),
    /// Fewer than [`MIN_VALUE`] bytes.
    #[error(
        "the secret `{name}` has {length} bytes; at least {MIN_VALUE} are needed, since shorter values occur by chance"
    )]
    TooShort {
        /// Its name.
        name: String,
        /// Its length in bytes.
        length: usize,
    },
    /// More than [`MAX_VALUE`] bytes.
    #[error("the secret `{name}` has {length} bytes; at most {MAX_VALUE} can be searched for")]
    TooLong {
        /// Its name.
        name: String,
        /// Its length in bytes.
        length: usize,
    },
    /// All bytes alike, such as `0000`: it would be found everywhere.
    #[error("the secret `{0}` repeats one character; it would be found in any padding")]
    Uniform(String),
    /// The value is not of the declared kind.
    #[error("the secret `{name}` is declared as {kind} and does not read as one")]
    NotOfKind {
        /// Its name.
        name: String,
        /// The kind in words.
        kind: &'static str,
    },
    /// All encodings of all secrets together are too large for the search automaton.
    #[error("the declared secrets are too long in all: their encodings take {0} bytes")]
    TooLarge(usize),
}

impl Secret {
    /// A secret of this name (for reports) and value. Surrounding blanks of the value are dropped.
    pub fn new(name: &str, value: &str, kind: Kind) -> Result<Self, SecretError> {
        if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
            return Err(SecretError::BadName);
        }
        let value = value.trim();
        let (name, length) = (name.to_owned(), value.len());
        if length < MIN_VALUE {
            return Err(SecretError::TooShort { name, length });
        }
        if length > MAX_VALUE {
            return Err(SecretError::TooLong { name, length });
        }
        let mut characters = value.chars();
        let first = characters.next();
        if characters.all(|next| Some(next) == first) {
            return Err(SecretError::Uniform(name));
        }
        let (kind, known) = forms::settle(value, kind);
        if !known {
            return Err(SecretError::NotOfKind {
                name,
                kind: kind.words(),
            });
        }
        Ok(Self {
            name,
            value: value.to_owned(),
            kind,
            class: kind.class(),
        })
    }

    /// The same secret, reported as this class instead of the one its kind suggests.
    #[must_use]
    pub fn with_class(mut self, class: Class) -> Self {
        self.class = class;
        self
    }

    /// The name the user gave it.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl Kind {
    const fn words(self) -> &'static str {
        match self {
            Self::Guess | Self::Text => "text",
            Self::Number => "a number",
            Self::Phone => "a telephone number",
            Self::Mac => "a hardware address",
            Self::Uuid => "a UUID",
        }
    }

    const fn class(self) -> Class {
        match self {
            Self::Guess | Self::Text | Self::Number | Self::Phone => Class::PersonId,
            Self::Mac | Self::Uuid => Class::DeviceId,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_refused_without_being_echoed() {
        for (value, kind) in [
            ("p1x", Kind::Guess),
            ("qqqqqqqq", Kind::Guess),
            ("hunter2hunter", Kind::Number),
            ("3c:22:fb:zz:00:01", Kind::Mac),
            ("not-a-uuid", Kind::Uuid),
        ] {
            let error = Secret::new("mine", value, kind).unwrap_err();
            assert!(!error.to_string().contains(value), "{error}");
            assert!(error.to_string().contains("mine"), "{error}");
        }
        assert_eq!(
            Secret::new("mine", &"long".repeat(65), Kind::Guess),
            Err(SecretError::TooLong {
                name: "mine".to_owned(),
                length: 260
            })
        );
        assert_eq!(
            Secret::new("", "value", Kind::Guess),
            Err(SecretError::BadName)
        );
    }

    #[test]
    fn debug_output_hides_the_value() {
        let secret = Secret::new("room", "M5xk2Rj9", Kind::Guess).unwrap();
        assert!(!format!("{secret:?}").contains("M5xk2Rj9"));
    }

    #[test]
    fn the_kind_gives_the_class() {
        let class = |value: &str| Secret::new("x", value, Kind::Guess).unwrap().class;
        assert_eq!(class("3c:22:fb:00:00:01"), Class::DeviceId);
        assert_eq!(
            class("550e8400-e29b-41d4-a716-446655440000"),
            Class::DeviceId
        );
        assert_eq!(class("512345687"), Class::PersonId);
    }
}
