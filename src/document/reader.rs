//! TOML with places: every step down the tree knows where it stands, and what is wrong is noted, not thrown.

use super::problem::{Place, Problem, Text, suggestion};
use std::fmt;
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use toml::value::Datetime;

/// The text being read and what was found wrong so far.
#[derive(Debug)]
pub(crate) struct Reader<'t> {
    text: Text<'t>,
    problems: Vec<Problem>,
}

/// One value and where it starts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node<'v> {
    value: &'v DeValue<'v>,
    pub(crate) start: usize,
}

/// A table whose keys are all known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'v> {
    table: &'v DeTable<'v>,
    pub(crate) start: usize,
}

impl<'t> Reader<'t> {
    /// Parses; the tree that comes back holds whatever could be made out.
    pub(crate) fn parse(file: &str, text: &'t str) -> (Self, Spanned<DeTable<'t>>) {
        // Offsets stay those of the file; a byte order mark is one character before column 1.
        let (tree, errors) = DeTable::parse_recoverable(text);
        let mut reader = Self {
            text: Text::new(file, text),
            problems: Vec::new(),
        };
        for error in errors {
            let start = error.span().map_or(0, |span| span.start);
            let message = error.message().replace('\n', ", ");
            reader.problem(start, format!("not valid TOML: {message}"));
        }
        (reader, tree)
    }

    pub(crate) fn problem(&mut self, start: usize, message: impl Into<String>) {
        const MOST: usize = 500;
        let message = match self.problems.len() {
            0..MOST => message.into(),
            MOST => "and so on".into(),
            _ => return,
        };
        let place = self.place(start);
        self.problems.push(Problem { place, message });
    }

    /// The file as it was named to the loader.
    pub(crate) fn file(&self) -> &str {
        &self.text.file
    }

    pub(crate) fn place(&self, start: usize) -> Place {
        self.text.place(start)
    }

    /// What was found wrong, in the order of the text.
    pub(crate) fn into_problems(mut self) -> Vec<Problem> {
        self.problems.sort_by(|a, b| a.place.cmp(&b.place));
        self.problems
    }
}

impl<'v> Node<'v> {
    fn new(spanned: &'v Spanned<DeValue<'v>>) -> Self {
        Self {
            value: spanned.get_ref(),
            start: spanned.span().start,
        }
    }

    pub(crate) fn string(self, reader: &mut Reader<'_>) -> Option<&'v str> {
        let DeValue::String(text) = self.value else {
            return self.wrong("a string", reader);
        };
        Some(text)
    }

    /// One of a few words.
    pub(crate) fn word<T: Copy>(self, words: &[(&str, T)], reader: &mut Reader<'_>) -> Option<T> {
        let text = self.string(reader)?;
        let found = words.iter().find(|(word, _)| *word == text);
        if found.is_none() {
            let all: Vec<String> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
            let near = suggestion(text, words.iter().map(|(word, _)| *word));
            reader.problem(
                self.start,
                format!("`{}` is none of {}{near}", Shown(text), all.join(", ")),
            );
        }
        found.map(|(_, value)| *value)
    }

    pub(crate) fn boolean(self, reader: &mut Reader<'_>) -> Option<bool> {
        let DeValue::Boolean(value) = self.value else {
            return self.wrong("true or false", reader);
        };
        Some(*value)
    }

    /// An integer within bounds that are said in the error.
    pub(crate) fn integer(
        self,
        range: std::ops::RangeInclusive<u32>,
        reader: &mut Reader<'_>,
    ) -> Option<u32> {
        let DeValue::Integer(digits) = self.value else {
            return self.wrong("a whole number", reader);
        };
        let value = u32::from_str_radix(digits.as_str(), digits.radix())
            .ok()
            .filter(|value| range.contains(value));
        if value.is_none() {
            let (found, first, last) = (Shown(digits.as_str()), range.start(), range.end());
            let message = match first == last {
                true => format!("{found} is not {first}, the only one there is"),
                false => format!("{found} is not between {first} and {last}"),
            };
            reader.problem(self.start, message);
        }
        value
    }

    /// A plain value, or a list of them, as TOML has it.
    pub(crate) fn written(self) -> Option<String> {
        match self.value {
            DeValue::String(text) => Some(toml::Value::String(text.to_string()).to_string()),
            DeValue::Integer(digits) => Some(digits.to_string()),
            DeValue::Boolean(value) => Some(value.to_string()),
            DeValue::Datetime(datetime) => Some(datetime.to_string()),
            DeValue::Array(array) => {
                let members: Option<Vec<String>> = array
                    .iter()
                    .map(|member| Node::new(member).written())
                    .collect();
                Some(format!("[{}]", members?.join(", ")))
            }
            DeValue::Float(_) | DeValue::Table(_) => None,
        }
    }

    pub(crate) fn is_integer(self) -> bool {
        matches!(self.value, DeValue::Integer(_))
    }

    pub(crate) fn is_datetime(self) -> bool {
        matches!(self.value, DeValue::Datetime(_))
    }

    pub(crate) fn datetime(self, reader: &mut Reader<'_>) -> Option<Datetime> {
        let DeValue::Datetime(datetime) = self.value else {
            return self.wrong("a date, like 2027-01-15", reader);
        };
        Some(*datetime)
    }

    /// The members of a list; a value that is no list stands for a list of one.
    pub(crate) fn members(self) -> Vec<Self> {
        match self.value {
            DeValue::Array(array) => array.iter().map(Node::new).collect(),
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Table(_) => vec![self],
        }
    }

    /// The members of a list of tables, `[[x]]`.
    pub(crate) fn tables(self, reader: &mut Reader<'_>) -> Vec<Self> {
        let DeValue::Array(array) = self.value else {
            self.wrong::<()>("a list of tables, `[[…]]`", reader);
            return Vec::new();
        };
        array.iter().map(Node::new).collect()
    }

    /// A table with these keys and no other.
    pub(crate) fn fields(self, known: &[&str], reader: &mut Reader<'_>) -> Option<Fields<'v>> {
        let DeValue::Table(table) = self.value else {
            return self.wrong("a table", reader);
        };
        let fields = Fields {
            table,
            start: self.start,
        };
        fields.check_keys(known, reader);
        Some(fields)
    }

    /// A key of a table, whatever else is in it; `None` also if this is no table.
    pub(crate) fn peek(self, key: &str) -> Option<Self> {
        let DeValue::Table(table) = self.value else {
            return None;
        };
        table.get(key).map(Node::new)
    }

    /// A table that has passed [`Node::fields`] with all `known` keys, and of those may have only `some` here.
    pub(crate) fn fields_of(
        self,
        some: &[&str],
        known: &[&str],
        reader: &mut Reader<'_>,
    ) -> Option<Fields<'v>> {
        let DeValue::Table(table) = self.value else {
            return self.wrong("a table", reader);
        };
        for key in table.keys() {
            let word = key.get_ref().as_ref();
            if known.contains(&word) && !some.contains(&word) {
                reader.problem(
                    key.span().start,
                    format!(
                        "`{word}` has no meaning here; possible are {}",
                        some.join(", ")
                    ),
                );
            }
        }
        Some(Fields {
            table,
            start: self.start,
        })
    }

    /// The entries of a table whose keys are names of the writer's choice, in the order of the text.
    pub(crate) fn entries(self, reader: &mut Reader<'_>) -> Vec<(&'v str, usize, Self)> {
        let DeValue::Table(table) = self.value else {
            self.wrong::<()>("a table", reader);
            return Vec::new();
        };
        let mut entries: Vec<_> = table
            .iter()
            .map(|(key, value)| (key.get_ref().as_ref(), key.span().start, Node::new(value)))
            .collect();
        entries.sort_by_key(|(_, start, _)| *start);
        entries
    }

    fn wrong<T>(self, wanted: &str, reader: &mut Reader<'_>) -> Option<T> {
        let found = match self.value {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a decimal number",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        reader.problem(self.start, format!("expected {wanted}, found {found}"));
        None
    }
}

impl<'v> Fields<'v> {
    /// The whole file, whose keys are still to be checked.
    pub(crate) fn whole(tree: &'v Spanned<DeTable<'v>>) -> Self {
        Self {
            table: tree.get_ref(),
            start: 0,
        }
    }

    /// Tells every key that is not known.
    pub(crate) fn check_keys(&self, known: &[&str], reader: &mut Reader<'_>) {
        // More would not help.
        const LISTED: usize = 16;
        for key in self.table.keys() {
            let word = key.get_ref().as_ref();
            if !known.contains(&word) {
                let mut near = suggestion(word, known.iter().copied());
                if near.is_empty() && known.len() <= LISTED {
                    near = format!("; possible are {}", known.join(", "));
                }
                reader.problem(
                    key.span().start,
                    format!("unknown key `{}`{near}", Shown(word)),
                );
            }
        }
    }

    /// The members of a list of tables, `[[key]]`; none if it is not there.
    pub(crate) fn tables(&self, key: &str, reader: &mut Reader<'_>) -> Vec<Node<'v>> {
        self.get(key)
            .map(|node| node.tables(reader))
            .unwrap_or_default()
    }

    /// A string that must be there.
    pub(crate) fn required_string(&self, key: &str, reader: &mut Reader<'_>) -> Option<&'v str> {
        self.require(key, reader)?.string(reader)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    pub(crate) fn get(&self, key: &str) -> Option<Node<'v>> {
        self.table.get(key).map(Node::new)
    }

    /// Where a key stands; the table's start if it does not.
    pub(crate) fn key_start(&self, key: &str) -> usize {
        self.table
            .get_key_value(key)
            .map_or(self.start, |(key, _)| key.span().start)
    }

    /// A value that must be there.
    pub(crate) fn require(&self, key: &str, reader: &mut Reader<'_>) -> Option<Node<'v>> {
        let node = self.get(key);
        if node.is_none() {
            reader.problem(self.start, format!("`{key}` is missing"));
        }
        node
    }
}

/// Takes a value, or notes why there is none.
pub(crate) fn accept<T>(
    value: Result<T, String>,
    node: Node<'_>,
    reader: &mut Reader<'_>,
) -> Option<T> {
    match value {
        Ok(value) => Some(value),
        Err(message) => {
            reader.problem(node.start, message);
            None
        }
    }
}

/// A word from the file inside a message: short, and without control characters.
pub(crate) struct Shown<'a>(pub(crate) &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LONGEST: usize = 80;
        for (index, letter) in self.0.chars().enumerate() {
            if index == LONGEST {
                return f.write_str("…");
            }
            if letter.is_control() {
                write!(f, "{}", letter.escape_default())?;
            } else {
                write!(f, "{letter}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str, read: impl FnOnce(Fields<'_>, &mut Reader<'_>)) -> Vec<String> {
        let (mut reader, tree) = Reader::parse("p", text);
        let fields = Fields::whole(&tree);
        fields.check_keys(&["a", "b", "t"], &mut reader);
        read(fields, &mut reader);
        reader
            .into_problems()
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn unknown_keys_are_told_where_they_stand_with_the_nearest_known_one() {
        let found = problems("a = 1\n[t]\nporrt = 2\n[[x]]\n", |fields, reader| {
            let table = fields.get("t").unwrap();
            assert!(table.fields(&["port"], reader).is_some());
        });
        assert_eq!(
            found,
            [
                "p:3:1: unknown key `porrt`; did you mean `port`?",
                "p:4:3: unknown key `x`; possible are a, b, t"
            ]
        );
    }

    #[test]
    fn broken_toml_is_told_and_the_rest_still_read() {
        let found = problems("a = \nb = true\n", |fields, reader| {
            assert_eq!(fields.get("b").unwrap().boolean(reader), Some(true));
        });
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("p:1:"), "{found:?}");
    }

    #[test]
    fn of_a_text_full_of_mistakes_only_the_first_are_told() {
        let text: String = (0..10_000)
            .map(|number| format!("x{number} = 1\n"))
            .collect();
        let found = problems(&text, |_, _| {});
        assert_eq!(found.len(), 501);
    }

    #[test]
    fn wrong_types_and_bounds_say_what_was_expected() {
        let found = problems("a = 70000\nb = 1.5", |fields, reader| {
            assert_eq!(fields.get("a").unwrap().integer(0..=65535, reader), None);
            assert_eq!(fields.get("b").unwrap().string(reader), None);
        });
        assert_eq!(
            found,
            [
                "p:1:5: 70000 is not between 0 and 65535",
                "p:2:5: expected a string, found a decimal number"
            ]
        );
    }
}
