//! Policies and the data they refer to, from files.

use crate::jurisdiction::{self, Groups};
use crate::policy::{Files, LoadError, Policy, Surroundings};
use anyhow::{Context, Result, anyhow};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The policy of whoever gives none: it watches and stops nothing.
pub(super) const OBSERVE: &str = include_str!("../../policies/observe.toml");

/// What policies refer to.
#[derive(Debug)]
pub(super) struct Data {
    pub(super) data: jurisdiction::Data,
    pub(super) groups: Groups,
}

impl Data {
    pub(super) fn embedded() -> Result<Self> {
        Ok(Self {
            data: jurisdiction::Data::embedded().context("the embedded data cannot be used")?,
            groups: Groups::embedded()
                .context("the embedded groups of countries cannot be used")?,
        })
    }

    /// The data that this machine is configured to use; what the user should know of it is said.
    pub(super) fn configured(settings: &crate::db::Settings) -> Result<Self> {
        let loaded = super::machine::load(settings)?;
        Ok(Self {
            data: loaded.data,
            groups: loaded.groups,
        })
    }

    fn around(&self) -> Surroundings<'_> {
        Surroundings {
            data: &self.data,
            groups: &self.groups,
        }
    }
}

/// Reads a policy; the outer error is for a file that cannot be read.
pub(super) fn load(path: &Path, data: &Data) -> Result<Result<Policy, LoadError>> {
    let name = path.display().to_string();
    let text = read(path).map_err(|why| anyhow!("cannot read {name}: {why}"))?;
    Ok(Policy::load_with(&name, &text, &data.around(), &Disk))
}

/// Files by their paths; those that a policy names stand beside it.
#[derive(Debug)]
struct Disk;

impl Files for Disk {
    fn read(&self, path: &str) -> Result<String, String> {
        read(Path::new(path))
    }
}

/// The text of a policy, or of what belongs to it; the error is a clause that says why there is none.
fn read(path: &Path) -> Result<String, String> {
    const MOST: u64 = 64 << 20;
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(MOST + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MOST {
        return Err(format!("it is larger than {} MiB", MOST >> 20));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = error.as_bytes().get(..error.utf8_error().valid_up_to());
        let lines = good
            .unwrap_or_default()
            .split(|byte| *byte == b'\n')
            .count();
        format!("it is not UTF-8 text from line {lines} on")
    })
}

/// The policy in a file, or the default one.
pub(super) fn load_or_observe(path: Option<&Path>, data: &Data) -> Result<Policy> {
    let policy = match path {
        Some(path) => load(path, data)?,
        None => Policy::load("observe.toml", OBSERVE, &data.around()),
    };
    policy.context("the policy has errors")
}

/// A policy that is part of the program.
pub(super) fn parse(name: &str, text: &str, data: &Data) -> Result<Policy> {
    let policy = Policy::load_with(name, text, &data.around(), &BuiltIn);
    policy.context("the policy has errors")
}

/// Policies that are part of the program, for those of them that extend another one.
#[derive(Debug)]
struct BuiltIn;

impl Files for BuiltIn {
    fn read(&self, path: &str) -> Result<String, String> {
        let (name, text) = crate::run::demo::POLICY;
        match path == name {
            true => Ok(text.to_owned()),
            false => Err("it is not part of the program".into()),
        }
    }
}
