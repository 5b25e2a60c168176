//! What is wrong with a file, and where.

use std::fmt;
use std::sync::Arc;

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The file as it was named to the loader.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// One thing wrong, or doubtful, at one place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {message}")]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What, and what to do about it: one sentence without a full stop.
    pub message: String,
}

/// All that keeps a policy, or a file of data, from being loaded; never empty. Displays as one `FILE:LINE:COLUMN: message` a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadError(Vec<Problem>);

impl LoadError {
    /// An error if anything is wrong at all.
    pub(crate) fn unless_none(mut problems: Vec<Problem>) -> Result<(), Self> {
        if problems.is_empty() {
            return Ok(());
        }
        problems.sort_by(|a, b| a.place.cmp(&b.place));
        Err(Self(problems))
    }

    /// Each problem, in the order of the text.
    pub fn problems(&self) -> &[Problem] {
        &self.0
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for LoadError {}

/// A file's text with its line starts, to turn offsets into places.
#[derive(Debug)]
pub(crate) struct Text<'t> {
    pub(crate) file: Arc<str>,
    text: &'t str,
    lines: Vec<usize>,
}

impl<'t> Text<'t> {
    pub(crate) fn new(file: &str, text: &'t str) -> Self {
        let starts = text.match_indices('\n').map(|(at, _)| at + 1);
        Self {
            file: file.into(),
            text,
            lines: std::iter::once(0).chain(starts).collect(),
        }
    }

    pub(crate) fn place(&self, offset: usize) -> Place {
        let line = self.lines.partition_point(|start| *start <= offset).max(1);
        let start = self.lines.get(line - 1).copied().unwrap_or(0);
        let before = self
            .text
            .as_bytes()
            .get(start..offset.min(self.text.len()))
            .unwrap_or_default();
        // Continuation bytes are no characters of their own.
        let column = before.iter().filter(|byte| **byte & 0xc0 != 0x80).count() + 1;
        Place {
            file: Arc::clone(&self.file),
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: u32::try_from(column).unwrap_or(u32::MAX),
        }
    }
}

/// The known word nearest to a mistyped one, ready to end a sentence: `; did you mean "x"?`, or nothing.
pub(crate) fn suggestion<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    nearest(word, known)
        .map(|near| format!("; did you mean `{near}`?"))
        .unwrap_or_default()
}

fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    // Bounds for texts that consist of mistakes.
    const LONGEST: usize = 64;
    const MOST: usize = 1000;
    if word.len() > LONGEST {
        return None;
    }
    let word = word.to_lowercase();
    let allowed = |other: &str| word.len().min(other.len()).div_ceil(3);
    known
        .into_iter()
        .take(MOST)
        .filter(|other| word.len().abs_diff(other.len()) <= allowed(other))
        .map(|other| (strsim::osa_distance(&word, &other.to_lowercase()), other))
        .filter(|(distance, other)| *distance <= allowed(other) && *distance < other.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, other)| other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_lines_and_characters_from_one() {
        let text = Text::new("p.toml", "a\nπ = 1\n");
        assert_eq!(text.place(0).to_string(), "p.toml:1:1");
        assert_eq!(text.place(2).to_string(), "p.toml:2:1");
        assert_eq!(text.place(5).to_string(), "p.toml:2:3");
        assert_eq!(text.place(9).to_string(), "p.toml:3:1");
        assert_eq!(text.place(usize::MAX).to_string(), "p.toml:3:1");
        assert_eq!(Text::new("e", "").place(0).to_string(), "e:1:1");
    }

    #[test]
    fn a_mistyped_word_gets_the_nearest_known_one_and_a_strange_one_none() {
        let known = ["jurisdiction", "country", "port"];
        assert_eq!(
            suggestion("juristiction", known),
            "; did you mean `jurisdiction`?"
        );
        assert_eq!(suggestion("prot", known), "; did you mean `port`?");
        assert_eq!(suggestion("weather", known), "");
        assert_eq!(suggestion(&"x".repeat(100_000), known), "");
    }
}
