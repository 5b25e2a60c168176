//! Named groups of countries, as data.

use super::written::{country, date, each, name};
use super::{Country, CountrySet};
use crate::document::{Fields, LoadError, Node, Place, Reader, Shown, accept, suggestion};
use std::collections::HashMap;

/// A named group of countries.
#[derive(Clone, Debug)]
pub struct Group {
    /// Name without the `@` that policies put before it.
    pub name: String,
    /// What it is, in words.
    pub title: String,
    /// Its members in the order of their codes.
    pub members: Vec<Country>,
    /// The same, as a set.
    pub set: CountrySet,
    /// Who decides on its members.
    pub source: String,
    /// Which state is given, `YYYY-MM-DD`.
    pub as_of: String,
    /// What a reader should know.
    pub note: String,
}

/// All groups. Memberships change and none of this is legal advice; whoever prints a group prints its source and date.
#[derive(Clone, Debug, Default)]
pub struct Groups(Vec<Group>);

/// Keys of a group.
const KEYS: [&str; 7] = [
    "name", "title", "includes", "members", "source", "as_of", "note",
];

impl Groups {
    /// The groups that the program knows.
    pub fn embedded() -> Result<Self, LoadError> {
        Self::with(&[])
    }

    /// The groups that the program knows, and those of users' files, which may replace them. Each file is what errors
    /// call it, and its text.
    pub fn with(files: &[(&str, &str)]) -> Result<Self, LoadError> {
        let mut all = vec![("groups.toml", include_str!("data/groups.toml"))];
        all.extend(files);
        Self::read(&all)
    }

    /// Reads group files. A group may include those that stand before it; a later file replaces one of its name.
    ///
    /// # Errors
    /// Everything that is wrong in any of them, each with its place.
    pub fn read(files: &[(&str, &str)]) -> Result<Self, LoadError> {
        let mut groups = Self::default();
        let mut problems = Vec::new();
        for (name, text) in files {
            let (mut reader, tree) = Reader::parse(name, text);
            let root = Fields::whole(&tree);
            root.check_keys(&["group"], &mut reader);
            let mut own = HashMap::new();
            for node in root.tables("group", &mut reader) {
                groups.add(node, &mut own, &mut reader);
            }
            problems.append(&mut reader.into_problems());
        }
        LoadError::unless_none(problems).map(|()| groups)
    }

    /// The members of a group, by its name with or without `@`.
    pub fn members(&self, name: &str) -> Option<&[Country]> {
        self.get(name).map(|group| group.members.as_slice())
    }

    /// A group, by its name with or without `@`.
    pub fn get(&self, name: &str) -> Option<&Group> {
        let name = name.strip_prefix('@').unwrap_or(name);
        self.0.iter().find(|group| group.name == name)
    }

    /// The names of all groups, without `@`.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|group| group.name.as_str())
    }

    /// All groups.
    pub fn iter(&self) -> impl Iterator<Item = &Group> {
        self.0.iter()
    }

    /// Reads a group; `own` are those of this file, and where each stands. One that lacks something stays known: what is
    /// told once is not told again where it is included, and no group is used when anything was told.
    fn add(&mut self, node: Node<'_>, own: &mut HashMap<String, Place>, reader: &mut Reader<'_>) {
        let Some(fields) = node.fields(&KEYS, reader) else {
            return;
        };
        let title = fields.required_string("title", reader);
        let source = fields.required_string("source", reader);
        let as_of = fields.require("as_of", reader);
        let as_of = as_of.and_then(|node| date(node, reader));
        let note = fields.get("note").and_then(|node| node.string(reader));
        let country = |node: Node<'_>, reader: &mut Reader<'_>| {
            accept(country(node.string(reader)?), node, reader)
        };
        let members = each(fields.require("members", reader), reader, country);
        let mut set: CountrySet = members.into_iter().map(|(country, _)| country).collect();
        let included = |node: Node<'_>, reader: &mut Reader<'_>| {
            let name = node.string(reader)?;
            accept(self.included(name), node, reader)
        };
        for (other, _) in each(fields.get("includes"), reader, included) {
            set = set.union(&other);
        }
        let named = fields.require("name", reader);
        let Some((name, start)) = named.and_then(|node| Some((name(node, reader)?, node.start)))
        else {
            return;
        };
        if let Some(first) = own.get(name) {
            reader.problem(
                start,
                format!("group `{name}` stands twice in this file: first at {first}"),
            );
        }
        own.insert(name.into(), reader.place(start));
        let group = Group {
            members: set.iter().collect(),
            set,
            name: name.into(),
            title: title.unwrap_or_default().into(),
            source: source.unwrap_or_default().into(),
            as_of: as_of.unwrap_or_default(),
            note: note.unwrap_or_default().into(),
        };
        match self.0.iter_mut().find(|older| older.name == group.name) {
            Some(older) => *older = group,
            None => self.0.push(group),
        }
    }

    fn included(&self, name: &str) -> Result<CountrySet, String> {
        self.get(name).map(|group| group.set).ok_or_else(|| {
            let near = suggestion(name, self.names());
            format!("no group before this one is called `{}`{near}", Shown(name))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(groups: &Groups, name: &str) -> String {
        let members = groups
            .members(name)
            .unwrap_or_else(|| panic!("no group {name}"));
        members
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn the_shipped_groups_read_and_hold_who_belongs() {
        let groups = Groups::embedded().unwrap();
        assert_eq!(groups.members("eu-states").unwrap().len(), 27);
        assert_eq!(groups.members("@eu").unwrap().len(), 34);
        assert_eq!(groups.members("eea").unwrap().len(), 37);
        assert_eq!(groups.members("schengen").unwrap().len(), 29);
        assert_eq!(text(&groups, "five-eyes"), "AU CA GB NZ US");
        assert_eq!(text(&groups, "nine-eyes"), "AU CA DK FR GB NL NO NZ US");
        assert_eq!(groups.members("fourteen-eyes").unwrap().len(), 14);
        assert_eq!(text(&groups, "@cn-hk-mo"), "CN HK MO", "and never Taiwan");
        assert_eq!(text(&groups, "us-ear-e2"), "CU");
        assert!(groups.members("atlantis").is_none());
        for group in groups.iter() {
            assert!(
                !group.source.is_empty() && !group.title.is_empty(),
                "{}",
                group.name
            );
            assert_eq!(group.set.iter().collect::<Vec<_>>(), group.members);
        }
        assert_eq!(groups.names().count(), 19);
    }

    #[test]
    fn a_users_group_is_added_or_replaces_and_mistakes_are_told() {
        let own = "[[group]]\nname = \"eu\"\ntitle = \"mine\"\nincludes = [\"eu-states\"]\nmembers = [\"CH\"]\n\
                   source = \"me\"\nas_of = \"2026-01-01\"\n";
        let groups = Groups::with(&[("own.toml", own)]).unwrap();
        assert_eq!(groups.members("eu").unwrap().len(), 28);
        let wrong = |from: &str, to: &str| {
            let text = own.replace(from, to);
            let error = Groups::with(&[("own.toml", &text)]).unwrap_err();
            error.to_string()
        };
        for (from, to, told) in [
            (
                "eu-states",
                "eu-stats",
                "4:13: no group before this one is called `eu-stats`; did you mean `eu-states`?",
            ),
            (
                "\"CH\"",
                "\"UK\"",
                "5:12: `UK` is not the ISO code; write GB",
            ),
            (
                "\"CH\"",
                "7",
                "5:12: expected a string, found a whole number",
            ),
            (
                "2026-01-01",
                "soon",
                "7:9: `soon` is not a date like 2026-06-17",
            ),
            (
                "title",
                "titel",
                "1:1: `title` is missing\nown.toml:3:1: unknown key `titel`; did you mean `title`?",
            ),
            (
                "[[group]]",
                "[[groups]]",
                "1:3: unknown key `groups`; did you mean `group`?",
            ),
            (
                "\"eu\"",
                "\"@eu\"",
                "2:8: `@eu` may have only a-z, 0-9 and `-`, and at least one of them",
            ),
        ] {
            assert_eq!(wrong(from, to), format!("own.toml:{told}"));
        }
        let twice = format!("{own}{own}");
        let error = Groups::with(&[("own.toml", &twice)]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "own.toml:9:8: group `eu` stands twice in this file: first at own.toml:2:8"
        );
    }
}
