//! All files of one policy: what it extends and includes, fetched before anything is understood.

use crate::document::{Fields, Problem, Reader, Shown, Text};
use std::collections::BTreeMap;
use std::fmt;

/// Where the files that a policy names come from. The core opens none itself.
pub trait Files: fmt::Debug {
    /// The text of a file. `path` is relative to where the policy itself was found; the error is a clause that says why
    /// it cannot be read.
    fn read(&self, path: &str) -> Result<String, String>;
}

/// No files: for a policy that stands alone.
#[derive(Clone, Copy, Debug)]
pub struct NoFiles;

impl Files for NoFiles {
    fn read(&self, _path: &str) -> Result<String, String> {
        Err("no other files can be read here".into())
    }
}

/// Files that a policy may consist of.
const MOST: usize = 64;

/// The policy's own file first, then the others as they are named.
#[derive(Debug)]
pub(super) struct Bundle<'f> {
    files: &'f dyn Files,
    pub(super) parts: Vec<Part>,
    pub(super) problems: Vec<Problem>,
}

/// One file.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) name: String,
    pub(super) text: String,
    /// The policy that it extends, by its place in the bundle.
    pub(super) extends: Option<usize>,
    /// What it includes, by where the name stands in its text.
    pub(super) includes: BTreeMap<usize, usize>,
}

impl<'f> Bundle<'f> {
    /// The file `name` with this text, and all that it needs.
    pub(super) fn collect(name: &str, text: &str, files: &'f dyn Files) -> Self {
        let mut bundle = Self {
            files,
            parts: Vec::new(),
            problems: Vec::new(),
        };
        bundle.add(name, text.into(), &[]);
        bundle
    }

    /// `above` are the files by which one came here.
    fn add(&mut self, name: &str, text: String, above: &[&str]) -> usize {
        let named = Named::find(name, &text);
        let place = self.parts.len();
        self.parts.push(Part {
            name: name.into(),
            text,
            extends: None,
            includes: BTreeMap::new(),
        });
        let above: Vec<&str> = above.iter().copied().chain([name]).collect();
        if let Some((start, other)) = named.extends {
            let parent = self.fetch(place, start, &other, &above);
            if let Some(part) = self.parts.get_mut(place) {
                part.extends = parent;
            }
        }
        for (start, other) in named.includes {
            let included = self.fetch(place, start, &other, &above);
            if let (Some(part), Some(included)) = (self.parts.get_mut(place), included) {
                part.includes.insert(start, included);
            }
        }
        place
    }

    fn fetch(&mut self, by: usize, start: usize, other: &str, above: &[&str]) -> Option<usize> {
        let name = above.last().copied().unwrap_or_default();
        let fetched = beside(name, other).and_then(|path| {
            if above.contains(&path.as_str()) {
                return Err(format!("`{}` would contain itself", Shown(other)));
            }
            if self.parts.len() >= MOST {
                return Err(format!(
                    "a policy may consist of {MOST} files, and this is one more"
                ));
            }
            let text = self.files.read(&path);
            let text = text.map_err(|why| format!("`{}` cannot be read: {why}", Shown(&path)))?;
            Ok((path, text))
        });
        match fetched {
            Ok((path, text)) => Some(self.add(&path, text, above)),
            Err(message) => {
                let place = self
                    .parts
                    .get(by)
                    .map(|part| Text::new(&part.name, &part.text).place(start))?;
                self.problems.push(Problem { place, message });
                None
            }
        }
    }
}

/// The path of a file that stands beside another. A policy holds no paths of a machine.
pub(super) fn beside(file: &str, name: &str) -> Result<String, String> {
    if name.is_empty() || name.starts_with(['/', '~']) || name.contains(['\\', ':', '\0']) {
        return Err(format!(
            "`{}` is not the name of a file beside this one",
            Shown(name)
        ));
    }
    Ok(match file.rsplit_once('/') {
        Some((folder, _)) => format!("{folder}/{name}"),
        None => name.into(),
    })
}

/// Other policy files that a file names, and where.
#[derive(Default)]
struct Named {
    extends: Option<(usize, String)>,
    includes: Vec<(usize, String)>,
}

impl Named {
    /// What is wrong with the text is told when it is read in earnest.
    fn find(name: &str, text: &str) -> Self {
        let mut named = Self::default();
        // Most files name no others and need not be parsed twice. A backslash may spell a key's letters.
        if !["extends", "include", "\\"]
            .iter()
            .any(|sign| text.contains(sign))
        {
            return named;
        }
        let (mut reader, tree) = Reader::parse(name, text);
        let root = Fields::whole(&tree);
        named.extends = root.get("extends").and_then(|node| {
            let other = node.string(&mut reader)?.to_owned();
            Some((node.start, other))
        });
        let rules = root.get("rule").map(|node| node.tables(&mut reader));
        let rules = rules.unwrap_or_default().into_iter();
        let in_rules = rules.filter_map(|node| node.peek("include"));
        let nodes: Vec<_> = root
            .get("include")
            .map(|node| node.members())
            .unwrap_or_default()
            .into_iter()
            .chain(in_rules)
            .collect();
        for node in nodes {
            if let Some(other) = node.string(&mut reader) {
                named.includes.push((node.start, other.to_owned()));
            }
        }
        named
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_stand_beside_the_one_that_names_them() {
        assert_eq!(
            beside("policies/a.toml", "b.toml").as_deref(),
            Ok("policies/b.toml")
        );
        assert_eq!(
            beside("a.toml", "lists/b.txt").as_deref(),
            Ok("lists/b.txt")
        );
        for outside in ["/etc/passwd", "~/x", "C:\\x", "", "x\0"] {
            assert!(beside("a.toml", outside).is_err(), "{outside:?}");
        }
    }
}
