//! The words a policy's `leak` list may use.

use super::class::Class;
use super::finding::Leak;
use super::secret::SECRET;
use super::{dissect, fanout};
use std::sync::LazyLock;

/// One word of a `leak` list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Term {
    /// One field that one detector tells: `oicq.account`. Matches [`super::Finding::leak`].
    Leak(&'static Leak),
    /// All leaks of one detector: `oicq`. Matches [`super::Finding::detector`].
    Detector(&'static str),
    /// All leaks of one class, whoever tells them: `person_id`. Matches [`super::Finding::class`].
    Class(Class),
}

impl Term {
    /// The word itself.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Leak(leak) => leak.name,
            Self::Detector(name) => name,
            Self::Class(class) => class.name(),
        }
    }

    /// Whether a finding is meant by this word.
    pub fn matches(self, finding: &super::Finding) -> bool {
        match self {
            Self::Leak(leak) => finding.leak == leak.name,
            Self::Detector(name) => finding.detector == name,
            Self::Class(class) => finding.class == class,
        }
    }
}

/// Every word a policy may use, each once, sorted by name. A detector with one leak of its own name stands as the leak.
pub fn vocabulary() -> &'static [Term] {
    static TERMS: LazyLock<Vec<Term>> = LazyLock::new(|| {
        let leaks = || {
            [&SECRET]
                .into_iter()
                .chain(fanout::LEAKS)
                .chain(dissect::leaks())
        };
        let mut terms: Vec<Term> = leaks()
            .map(Term::Leak)
            .chain(leaks().map(|leak| Term::Detector(leak.detector)))
            .chain(Class::ALL.into_iter().map(Term::Class))
            .collect();
        terms.sort_by_key(|term| term.name());
        terms.dedup_by_key(|term| term.name());
        terms
    });
    &TERMS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaks_detectors_and_classes_can_be_named() {
        for word in [
            "oicq.account",
            "oicq",
            "sd-rtn.identifier",
            "secret",
            "probe-fanout",
            "person_id",
        ] {
            assert!(
                vocabulary().iter().any(|term| term.name() == word),
                "{word}"
            );
        }
    }

    #[test]
    fn every_leak_is_named_after_its_detector() {
        for term in vocabulary() {
            if let Term::Leak(leak) = term {
                assert!(
                    leak.name == leak.detector
                        || leak.name.starts_with(&format!("{}.", leak.detector)),
                    "{}",
                    leak.name
                );
            }
        }
    }
}
