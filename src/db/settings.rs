//! The table `[db]` of the configuration, and the sources that are known by name.

use crate::jurisdiction::{Asn, Country, Format, Label};
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::collections::HashSet;
use std::net::IpAddr;
use std::path::PathBuf;

/// Which jurisdiction data this machine uses.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Settings {
    /// Where fetched files are kept.
    pub directory: PathBuf,
    /// Whether the data that the program carries is used too.
    pub embedded: bool,
    /// Files of operators beside the shipped one.
    pub operators: Vec<PathBuf>,
    /// Files of groups of countries beside the shipped one.
    pub groups: Vec<PathBuf>,
    /// Certificates (PEM) to trust instead of the public authorities, for mirrors within a company.
    pub ca: Option<PathBuf>,
    source: Vec<Entry>,
}

/// One `[[db.source]]`. Naming a preset is the consent to use it: none is used otherwise.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
struct Entry {
    preset: Option<String>,
    name: Option<String>,
    kind: Option<Format>,
    path: Vec<PathBuf>,
    url: Vec<String>,
    sha256: Option<String>,
    sha256_url: Option<String>,
    token_file: Option<PathBuf>,
    licence: Option<String>,
    attribution: Option<String>,
    note: Option<String>,
    min_bytes: Option<u64>,
    max_bytes: Option<u64>,
    canary: Vec<Canary>,
}

/// An address whose facts are known: a file that answers otherwise is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Canary {
    /// The address.
    pub ip: IpAddr,
    /// Where it must be located or registered.
    pub country: Option<Country>,
    /// Who must originate it.
    pub asn: Option<Asn>,
    /// Whether it must be known as anycast.
    pub anycast: Option<bool>,
}

/// A source with everything that is needed to read or fetch it.
#[derive(Clone, Debug)]
pub struct Configured {
    /// Short name; also that of its file.
    pub name: String,
    /// What its files hold, where they do not tell.
    pub kind: Option<Format>,
    /// Files that somebody else keeps up to date.
    pub path: Vec<PathBuf>,
    /// Where it is fetched; several are taken together. `{YYYY-MM}` stands for the month, `{token}` for the token.
    pub url: Vec<String>,
    /// SHA-256 of the first file as it is fetched, in hexadecimal.
    pub sha256: Option<String>,
    /// Where that SHA-256 is fetched.
    pub sha256_url: Option<String>,
    /// A file with a token for the publisher.
    pub token_file: Option<PathBuf>,
    /// Licence.
    pub licence: String,
    /// Whom the licence wants named.
    pub attribution: String,
    /// What a user should know before using it.
    pub note: String,
    /// Smallest and largest size of a file in bytes, before and after decompression.
    pub min_bytes: u64,
    /// See `min_bytes`.
    pub max_bytes: u64,
    /// Addresses that it must answer rightly.
    pub canary: Vec<Canary>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Presets {
    preset: Vec<Entry>,
}

/// The sources that are known by name, none of which is used unless it is configured.
pub fn presets() -> Result<Vec<Configured>> {
    let presets: Presets =
        toml::from_str(include_str!("presets.toml")).context("the presets cannot be read")?;
    presets.preset.into_iter().map(Entry::configured).collect()
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            directory: "/var/lib/cordon/db".into(),
            embedded: true,
            operators: Vec::new(),
            groups: Vec::new(),
            ca: None,
            source: Vec::new(),
        }
    }
}

impl Settings {
    /// Puts files before all other sources, each under its own name.
    pub fn ask_first(&mut self, files: &[PathBuf]) {
        let entry = |path: &PathBuf| {
            let stem = path
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .to_ascii_lowercase();
            let fits = |letter: char| {
                if letter.is_ascii_alphanumeric() {
                    letter
                } else {
                    '-'
                }
            };
            Entry {
                name: Some(stem.chars().map(fits).collect()),
                path: vec![path.clone()],
                ..Entry::default()
            }
        };
        self.source.splice(0..0, files.iter().map(entry));
    }

    /// The sources that are configured, completed by their presets.
    pub fn sources(&self) -> Result<Vec<Configured>> {
        let presets: Presets =
            toml::from_str(include_str!("presets.toml")).context("the presets cannot be read")?;
        let mut names = HashSet::new();
        let mut sources = Vec::new();
        for entry in &self.source {
            let configured = match &entry.preset {
                None => entry.clone().configured()?,
                Some(name) => {
                    let preset = presets
                        .preset
                        .iter()
                        .find(|preset| preset.name.as_ref() == Some(name));
                    let preset = preset.with_context(|| {
                        format!("there is no preset “{name}”; see `cordon db presets`")
                    })?;
                    entry.clone().over(preset.clone()).configured()?
                }
            };
            if !names.insert(configured.name.clone()) {
                bail!("the data source “{}” is configured twice", configured.name);
            }
            sources.push(configured);
        }
        Ok(sources)
    }
}

impl Configured {
    /// What is told about the source beside its bytes; the build date is not known here.
    pub fn label(&self) -> Label {
        Label {
            name: self.name.clone(),
            licence: self.licence.clone(),
            attribution: self.attribution.clone(),
            built: 0,
        }
    }
}

impl Entry {
    /// What is said here counts more than what the preset says.
    fn over(self, preset: Self) -> Self {
        let either = |own: Vec<_>, other| if own.is_empty() { other } else { own };
        Self {
            preset: None,
            name: self.name.or(preset.name),
            kind: self.kind.or(preset.kind),
            path: if self.path.is_empty() {
                preset.path
            } else {
                self.path
            },
            url: either(self.url, preset.url),
            sha256: self.sha256.or(preset.sha256),
            sha256_url: self.sha256_url.or(preset.sha256_url),
            token_file: self.token_file.or(preset.token_file),
            licence: self.licence.or(preset.licence),
            attribution: self.attribution.or(preset.attribution),
            note: self.note.or(preset.note),
            min_bytes: self.min_bytes.or(preset.min_bytes),
            max_bytes: self.max_bytes.or(preset.max_bytes),
            canary: if self.canary.is_empty() {
                preset.canary
            } else {
                self.canary
            },
        }
    }

    fn configured(self) -> Result<Configured> {
        let name = self.name.context("a data source needs a `name`")?;
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if name.is_empty() || !name.bytes().all(fits) {
            bail!("the name “{name}” of a data source may have only a-z, 0-9 and “-”");
        }
        match (self.path.is_empty(), self.url.is_empty()) {
            (true, true) => bail!("the data source “{name}” needs a `path` or a `url`"),
            (false, false) => {
                bail!("the data source “{name}” has both a `path` and a `url`; it needs one")
            }
            _ => {}
        }
        if let Some(url) = self.url.iter().find(|url| !url.starts_with("https://")) {
            bail!(
                "the data source “{name}” would be fetched without protection: {url} is not https"
            );
        }
        Ok(Configured {
            name,
            kind: self.kind,
            path: self.path,
            url: self.url,
            sha256: self.sha256.map(|digest| digest.to_ascii_lowercase()),
            sha256_url: self.sha256_url,
            token_file: self.token_file,
            licence: self.licence.unwrap_or_default(),
            attribution: self.attribution.unwrap_or_default(),
            note: self.note.unwrap_or_default(),
            min_bytes: self.min_bytes.unwrap_or(64),
            max_bytes: self.max_bytes.unwrap_or(256 << 20),
            canary: self.canary,
        })
    }
}
