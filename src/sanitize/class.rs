//! What kind of thing leaks, and how sure that is.

/// What kind of thing leaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Password, token, community.
    Credential,
    /// Account number, name, phone, mail address.
    PersonId,
    /// MAC, serial, install id.
    DeviceId,
    /// Name of a device or its owner.
    HostName,
    /// A room.
    ChannelId,
    /// What is said or sent.
    Content,
    /// A name of content: file, infohash.
    ContentId,
    /// Random or short-lived.
    SessionId,
    /// Which app.
    AppId,
    /// Data of the service, the same for all users.
    ServiceMeta,
    /// Which software.
    Software,
    /// Where the person is.
    Location,
    /// Whom the flow goes to: server name, queried name.
    DestMeta,
}

/// How sure a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Certainty {
    /// A value that looks like one. Worth telling, not worth breaking a flow for.
    Suspected,
    /// Seen, the meaning is inferred.
    Probable,
    /// The protocol defines the field, or the user declared the value.
    Certain,
}

impl Class {
    /// Every class, in the order of the enum.
    pub const ALL: [Self; 13] = [
        Self::Credential,
        Self::PersonId,
        Self::DeviceId,
        Self::HostName,
        Self::ChannelId,
        Self::Content,
        Self::ContentId,
        Self::SessionId,
        Self::AppId,
        Self::ServiceMeta,
        Self::Software,
        Self::Location,
        Self::DestMeta,
    ];

    /// The name used in policies, events and JSON: `person_id`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Credential => "credential",
            Self::PersonId => "person_id",
            Self::DeviceId => "device_id",
            Self::HostName => "host_name",
            Self::ChannelId => "channel_id",
            Self::Content => "content",
            Self::ContentId => "content_id",
            Self::SessionId => "session_id",
            Self::AppId => "app_id",
            Self::ServiceMeta => "service_meta",
            Self::Software => "software",
            Self::Location => "location",
            Self::DestMeta => "dest_meta",
        }
    }
}

impl Certainty {
    /// The name used in events and JSON: `probable`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Suspected => "suspected",
            Self::Probable => "probable",
            Self::Certain => "certain",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_class_has_its_own_name() {
        let names: BTreeSet<_> = Class::ALL.iter().map(|class| class.name()).collect();
        assert_eq!(names.len(), Class::ALL.len());
        assert!(names.contains("person_id"));
        assert!(names.contains("dest_meta"));
    }

    #[test]
    fn certainties_order_from_suspected_to_certain() {
        assert!(Certainty::Suspected < Certainty::Probable);
        assert!(Certainty::Probable < Certainty::Certain);
        assert_eq!(Certainty::Probable.name(), "probable");
    }
}
