//! One way in for every kind of file.

use super::{Draft, Ranges, is_mmdb, mmdb_meta};
use crate::jurisdiction::source::{Meta, Source};
use crate::jurisdiction::{BadData, is_compact};
use serde::Deserialize;

/// What a file is. Compact and mmdb files are known by their content, whatever is said of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// `range,country`: where addresses are located.
    Location,
    /// `range,country`: where address blocks are registered.
    Registration,
    /// `range,asn[,name]`: who originates addresses.
    Origin,
    /// `range,asn,country,name`, as IPtoASN publishes it.
    Iptoasn,
    /// `prefix[,…]`: announced from many places.
    Anycast,
    /// A feed of locations (RFC 8805).
    Geofeed,
    /// An mmdb file of any known schema.
    Mmdb,
    /// A compact file, as `cordon db build` writes it.
    Compact,
}

/// What is told about a source beside its bytes.
#[derive(Clone, Debug)]
pub struct Label {
    /// Short name, shown beside each answer.
    pub name: String,
    /// Licence; empty if not known.
    pub licence: String,
    /// Whom the licence wants named.
    pub attribution: String,
    /// Build date in seconds since the Unix epoch, for files that do not tell theirs.
    pub built: u64,
}

impl Source {
    /// Reads the files of one source, each whole in memory. What a compact or mmdb file says of itself counts more
    /// than the label, but for the name. A compact file stands for itself; other files are taken together.
    pub fn read(files: &[&[u8]], format: Option<Format>, label: &Label) -> Result<Self, BadData> {
        if let [file] = files
            && is_compact(file)
        {
            return Ok(Self::read_compact(file)?.named(&label.name));
        }
        let mut draft = Draft::default();
        let mut built = None;
        for file in files {
            let told = draft.read(file, format)?;
            built = built.max(told);
        }
        draft.finish(Meta {
            name: label.name.clone(),
            licence: if label.licence.is_empty() {
                "unknown".into()
            } else {
                label.licence.clone()
            },
            attribution: label.attribution.clone(),
            built: built.unwrap_or(label.built),
        })
    }
}

impl Draft {
    /// Adds a file and gives the build date that it tells.
    pub fn read(&mut self, file: &[u8], format: Option<Format>) -> Result<Option<u64>, BadData> {
        if is_mmdb(file) {
            let meta = mmdb_meta(file)?;
            self.mmdb(file)?;
            return Ok(Some(meta.built));
        }
        let ranges = match format {
            None | Some(Format::Mmdb | Format::Compact) => return Err(BadData::Foreign),
            Some(Format::Geofeed) => {
                self.geofeed(file)?;
                return Ok(None);
            }
            Some(Format::Location) => Ranges::Location,
            Some(Format::Registration) => Ranges::Registration,
            Some(Format::Origin) => Ranges::Origin,
            Some(Format::Iptoasn) => Ranges::OriginAndCountry,
            Some(Format::Anycast) => Ranges::Anycast,
        };
        self.ranges(file, ranges)?;
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label() -> Label {
        Label {
            name: "mine".into(),
            licence: String::new(),
            attribution: String::new(),
            built: 1_781_654_400,
        }
    }

    #[test]
    fn files_are_known_by_their_content_and_text_by_what_is_said_of_it() {
        let text: &[u8] = b"9.0.0.0/8,DE\n";
        let located = Source::read(
            &[text, b"11.0.0.0/8,FR\n"],
            Some(Format::Location),
            &label(),
        )
        .unwrap();
        assert_eq!(
            (
                located.meta().name.as_str(),
                located.meta().licence.as_str()
            ),
            ("mine", "unknown")
        );
        let compact = located.write_compact(1).unwrap();
        let again = Source::read(&[&compact], Some(Format::Geofeed), &label()).unwrap();
        assert_eq!(again.facts(), located.facts());
        let mmdb = crate::jurisdiction::write_mmdb(&located).unwrap();
        let other = Label {
            built: 0,
            ..label()
        };
        assert_eq!(
            Source::read(&[&mmdb], None, &other).unwrap().meta().built,
            label().built,
            "the file tells it"
        );
        assert_eq!(
            Source::read(&[text], None, &label()).unwrap_err(),
            BadData::Foreign
        );
        assert_eq!(
            Source::read(&[text], Some(Format::Mmdb), &label()).unwrap_err(),
            BadData::Foreign
        );
        assert_eq!(
            Source::read(&[], Some(Format::Location), &label()).unwrap_err(),
            BadData::NothingKnown
        );
        assert!(matches!(
            Source::read(&[text], Some(Format::Location), &other),
            Err(BadData::Date(0))
        ));
    }
}
