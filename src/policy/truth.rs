//! Three values: a condition holds, does not, or cannot be told.

/// What a fact that is not there waits for; a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Waits(u8);

impl Waits {
    /// For nothing that could still come.
    pub(super) const NEVER: Self = Self(1);
    /// For a name in the flow.
    pub(super) const NAME: Self = Self(2);
    /// For the first payload.
    pub(super) const PAYLOAD: Self = Self(4);
    /// For nothing: it holds or not, as the flow's claim is true or not.
    pub(super) const CLAIM: Self = Self(8);

    pub(super) fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(super) fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn hopeful(self) -> Self {
        match self.0 & !Self::NEVER.0 {
            0 => self,
            rest => Self(rest),
        }
    }
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Truth {
    No,
    Unknown(Waits),
    Yes,
}

impl Truth {
    pub(super) fn of(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }

    pub(super) fn not(self) -> Self {
        match self {
            Self::No => Self::Yes,
            Self::Unknown(waits) => Self::Unknown(waits),
            Self::Yes => Self::No,
        }
    }

    /// Both: what cannot come keeps the whole from ever holding.
    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::Yes, known) | (known, Self::Yes) => known,
            (Self::Unknown(a), Self::Unknown(b)) => Self::Unknown(a.with(b)),
        }
    }

    /// Either: whatever may still come may make it hold.
    pub(super) fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Yes, _) | (_, Self::Yes) => Self::Yes,
            (Self::No, known) | (known, Self::No) => known,
            (Self::Unknown(a), Self::Unknown(b)) => Self::Unknown(a.with(b).hopeful()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_is_between_no_and_yes() {
        let unknown = Truth::Unknown(Waits::NEVER);
        assert_eq!(Truth::No.and(unknown), Truth::No);
        assert_eq!(Truth::Yes.and(unknown), unknown);
        assert_eq!(Truth::Yes.or(unknown), Truth::Yes);
        assert_eq!(Truth::No.or(unknown), unknown);
        assert_eq!(unknown.not(), unknown);
    }

    #[test]
    fn a_conjunction_waits_in_vain_if_one_part_does_and_a_disjunction_does_not() {
        let (never, name) = (Truth::Unknown(Waits::NEVER), Truth::Unknown(Waits::NAME));
        let Truth::Unknown(both) = never.and(name) else {
            panic!("unknown");
        };
        assert!(both.has(Waits::NEVER) && both.has(Waits::NAME));
        assert_eq!(never.or(name), name);
    }
}
