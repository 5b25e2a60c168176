//! Columns on their way through the merge of sources.

use super::column::ColumnSteps;
use super::joined::JoinedSteps;
use super::{Asn, BadData};

/// All lanes of a family.
pub(super) struct Lanes<'a> {
    pub(super) single: Vec<Lane<'a>>,
    pub(super) joined: Option<JoinedLane<'a>>,
}

/// Joined columns on their way through the merge.
pub(super) struct JoinedLane<'a> {
    pub(super) steps: JoinedSteps<'a>,
    /// What the value of each column becomes.
    pub(super) roles: Vec<(usize, Role)>,
    pub(super) ended: bool,
}

/// A column on its way through the merge.
pub(super) struct Lane<'a> {
    pub(super) steps: ColumnSteps<'a>,
    pub(super) ended: bool,
    pub(super) role: Role,
    pub(super) value: u32,
}

/// What a lane's value becomes.
#[derive(Clone, Copy)]
pub(super) enum Role {
    Operator,
    FirstOrigin,
    Answer(usize),
}

impl<'a> JoinedLane<'a> {
    /// At its first step; `None` without steps.
    pub(super) fn new(
        mut steps: JoinedSteps<'a>,
        roles: Vec<(usize, Role)>,
    ) -> Result<Option<Self>, BadData> {
        Ok(steps.advance()?.then_some(Self {
            steps,
            roles,
            ended: false,
        }))
    }
}

impl Lanes<'_> {
    /// Where the next step of any is.
    #[inline]
    pub(super) fn start(&self) -> Option<u128> {
        let joined = self.joined.as_ref().map(|lane| lane.steps.start());
        let single = self.single.iter().map(Lane::start);
        single.chain(joined).min()
    }

    /// Lets go of those that have no step left.
    #[inline]
    pub(super) fn drop_ended(&mut self) {
        if self.single.iter().any(|lane| lane.ended) {
            self.single.retain(|lane| !lane.ended);
        }
        if self.joined.as_ref().is_some_and(|lane| lane.ended) {
            self.joined = None;
        }
    }
}

impl<'a> Lane<'a> {
    /// At its first step; `None` for a column without steps.
    pub(super) fn new(mut steps: ColumnSteps<'a>, role: Role) -> Result<Option<Self>, BadData> {
        Ok(steps.advance()?.then_some(Self {
            steps,
            ended: false,
            role,
            value: 0,
        }))
    }

    /// Where its next step is.
    #[inline]
    pub(super) fn start(&self) -> u128 {
        self.steps.step().start
    }

    /// Goes on to the next step.
    #[inline]
    pub(super) fn step(&mut self) -> Result<(), BadData> {
        self.ended = !self.steps.advance()?;
        Ok(())
    }
}

/// What tells records apart while they are gathered.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) asn: Asn,
    pub(super) place: u32,
    /// By prefix: operator id + 1.
    pub(super) operator: u16,
}

/// What holds at a place of the merge.
pub(super) struct Now {
    /// What the single lanes say.
    pub(super) key: Key,
    pub(super) answers: Vec<u32>,
    /// What all lanes say, while it is put together.
    pub(super) all: Vec<u32>,
    /// How many single lanes say anything.
    pub(super) speaking: usize,
    /// The record of what the joined lane says; without one it says nothing.
    pub(super) joined: u32,
}

impl Key {
    /// What a value tells by its role.
    pub(super) fn set(&mut self, answers: &mut [u32], role: Role, value: u32) {
        match role {
            Role::Operator => self.operator = u16::try_from(value).unwrap_or(0),
            Role::FirstOrigin => self.asn = value,
            Role::Answer(voice) => {
                if let Some(answer) = answers.get_mut(voice) {
                    *answer = value;
                }
            }
        }
    }
}

impl Now {
    /// Takes what a single lane says at its step.
    pub(super) fn take(&mut self, lane: &mut Lane<'_>) {
        let value = lane.steps.step().value;
        self.key.set(&mut self.answers, lane.role, value);
        self.speaking += usize::from(value != 0);
        self.speaking -= usize::from(lane.value != 0);
        lane.value = value;
    }
}
