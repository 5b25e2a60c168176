//! What exits are opened with: wiped when it is dropped, and never shown.

use serde::{Deserialize, Deserializer};
use std::fmt;
use zeroize::Zeroizing;

/// A text that nobody but its receiver may see.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(Zeroizing<String>);

/// What a proxy wants to know of its user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The user's name.
    pub user: Hidden,
    /// The password.
    pub password: Hidden,
}

impl Hidden {
    /// Hides a text.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text, for whoever has to send it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl<'de> Deserialize<'de> for Hidden {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_shown_by_accident() {
        let credentials = Credentials {
            user: Hidden::new("alice".into()),
            password: Hidden::new("open sesame".into()),
        };
        let shown = format!("{credentials:?} {credentials:#?}");
        assert!(
            !shown.contains("alice") && !shown.contains("sesame"),
            "{shown}"
        );
        assert_eq!(credentials.password.reveal(), "open sesame");
    }
}
