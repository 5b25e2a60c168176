//! Named groups of countries, as data.

use super::{BadData, Country, CountrySet};
use serde::Deserialize;

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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    group: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    title: String,
    #[serde(default)]
    includes: Vec<String>,
    members: Vec<Country>,
    source: String,
    as_of: String,
    #[serde(default)]
    note: String,
}

impl Groups {
    /// The groups that the program knows.
    pub fn embedded() -> Result<Self, BadData> {
        Self::read(&[include_str!("data/groups.toml")])
    }

    /// The groups that the program knows, and those of users' files, which may replace them.
    pub fn with(files: &[&str]) -> Result<Self, BadData> {
        let mut all = vec![include_str!("data/groups.toml")];
        all.extend(files);
        Self::read(&all)
    }

    /// Reads group files. A group may include those that stand before it; a later one replaces one of its name.
    pub fn read(files: &[&str]) -> Result<Self, BadData> {
        let mut groups = Self::default();
        for text in files {
            let file: File =
                toml::from_str(text).map_err(|error| BadData::Entry(error.to_string()))?;
            for entry in file.group {
                groups.add(entry)?;
            }
        }
        Ok(groups)
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

    fn add(&mut self, entry: Entry) -> Result<(), BadData> {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if entry.name.is_empty() || !entry.name.bytes().all(fits) {
            return Err(BadData::Entry(format!(
                "group name “{}” may have only a-z, 0-9 and “-”",
                entry.name
            )));
        }
        if entry.as_of.parse::<jiff::civil::Date>().is_err() {
            return Err(BadData::Entry(format!(
                "“{}” is no date like 2026-06-17",
                entry.as_of
            )));
        }
        let mut set: CountrySet = entry.members.into_iter().collect();
        for name in &entry.includes {
            let included = self.get(name).ok_or_else(|| {
                BadData::Entry(format!(
                    "group “{}” includes “{name}”, which does not stand before it",
                    entry.name
                ))
            })?;
            set = set.union(&included.set);
        }
        let group = Group {
            members: set.iter().collect(),
            set,
            name: entry.name,
            title: entry.title,
            source: entry.source,
            as_of: entry.as_of,
            note: entry.note,
        };
        match self.0.iter_mut().find(|older| older.name == group.name) {
            Some(older) => *older = group,
            None => self.0.push(group),
        }
        Ok(())
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
        let groups = Groups::with(&[own]).unwrap();
        assert_eq!(groups.members("eu").unwrap().len(), 28);
        let wrong = |text: String| Groups::with(&[&text]).unwrap_err().to_string();
        assert!(wrong(own.replace("eu-states", "nowhere")).contains("nowhere"));
        assert!(wrong(own.replace("\"CH\"", "\"UK\"")).contains("write GB"));
        assert!(wrong(own.replace("2026-01-01", "soon")).contains("soon"));
        assert!(
            wrong(own.replace("title", "titel")).contains("line 3"),
            "{}",
            wrong(own.replace("title", "titel"))
        );
    }
}
