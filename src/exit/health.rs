//! Whether an exit can be used, from one check to the next: slow to change its mind, quick to look again.

use crate::gateway::{ExitFault, Failure};
use std::time::Duration;

/// A check of an exit that is in use comes after this long, …
const IN_USE: Duration = Duration::from_millis(800);
/// … of one that lies idle after this, …
const IDLE: Duration = Duration::from_secs(15);
/// … of one that is in doubt after this, …
const IN_DOUBT: Duration = Duration::from_millis(250);
/// … and of one that is down after this.
const DOWN: Duration = Duration::from_secs(1);
/// A check may take so many times what checks take …
const PATIENCE: u32 = 4;
/// … but at least and at most this.
const LIMITS: [Duration; 2] = [Duration::from_millis(700), Duration::from_secs(3)];
/// Failures in a row after which an exit is down, and successes after which it is up again.
const IN_A_ROW: u32 = 2;
/// What a `fastest` group goes by changes only by more than this, so that two alike do not take turns.
const STEP: Duration = Duration::from_millis(3);

/// What checks have shown.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Health {
    /// `None` before the first check.
    up: Option<bool>,
    failures: u32,
    successes: u32,
    smoothed: Option<Duration>,
    /// The latency that is told.
    told: Duration,
}

impl Health {
    /// One that was up or down before.
    pub(super) fn known(up: bool, latency: Duration) -> Self {
        Self {
            up: Some(up),
            smoothed: Some(latency).filter(|latency| !latency.is_zero()),
            told: latency,
            ..Self::default()
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.up == Some(true)
    }

    /// The last check failed.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.failures > 0
    }

    /// How long it takes to answer, in steps.
    pub(super) fn latency(&self) -> Duration {
        self.told
    }

    /// A check was answered after this long.
    pub(super) fn succeed(&mut self, latency: Duration) {
        self.failures = 0;
        self.successes += 1;
        if self.up != Some(false) || self.successes >= IN_A_ROW {
            self.up = Some(true);
        }
        let smoothed = match self.smoothed {
            Some(before) => (before * 3 + latency) / 4,
            None => latency,
        };
        self.smoothed = Some(smoothed);
        let apart = smoothed.abs_diff(self.told);
        if self.told.is_zero() || (apart > STEP && apart > self.told / 4) {
            self.told = smoothed;
        }
    }

    /// A check failed.
    pub(super) fn fail(&mut self, failure: Failure) {
        self.successes = 0;
        self.failures += 1;
        // Only what may pass by itself is given a second try.
        let may_pass = match failure {
            Failure::Exit(fault) => fault == ExitFault::Unreachable,
            Failure::Refused
            | Failure::Unreachable
            | Failure::TimedOut
            | Failure::Exhausted
            | Failure::Forbidden => true,
        };
        if !may_pass || self.up != Some(true) || self.failures >= IN_A_ROW {
            self.up = Some(false);
        }
    }

    /// How long the next check may take.
    pub(super) fn limit(&self) -> Duration {
        let [least, most] = LIMITS;
        match self.smoothed {
            Some(latency) => (latency * PATIENCE).clamp(least, most),
            None => most,
        }
    }

    /// When the next check is due.
    pub(super) fn pause(&self, in_use: bool) -> Duration {
        if self.failures > 0 && self.is_up() || self.successes > 0 && !self.is_up() {
            IN_DOUBT
        } else if !self.is_up() {
            DOWN
        } else if in_use {
            IN_USE
        } else {
            IDLE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GONE: Failure = Failure::Exit(ExitFault::Unreachable);
    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn one_lost_check_changes_nothing_and_two_do() {
        let mut health = Health::default();
        assert!(!health.is_up());
        health.succeed(10 * MS);
        assert!(health.is_up());
        health.fail(GONE);
        assert!(health.is_up() && health.pause(false) == IN_DOUBT);
        health.succeed(10 * MS);
        health.fail(GONE);
        assert!(health.is_up());
        health.fail(GONE);
        assert!(!health.is_up() && health.pause(true) == DOWN);
    }

    #[test]
    fn one_answer_does_not_bring_it_back_and_two_do() {
        let mut health = Health::known(false, 10 * MS);
        health.succeed(10 * MS);
        assert!(!health.is_up() && health.pause(false) == IN_DOUBT);
        health.succeed(10 * MS);
        assert!(health.is_up());
        assert_eq!([health.pause(true), health.pause(false)], [IN_USE, IDLE]);
    }

    #[test]
    fn a_wrong_password_needs_no_second_try_and_neither_does_the_first_failure() {
        let mut health = Health::known(true, 10 * MS);
        health.fail(Failure::Exit(ExitFault::Credentials));
        assert!(!health.is_up());
        let mut unknown = Health::default();
        unknown.fail(GONE);
        assert!(!unknown.is_up());
    }

    #[test]
    fn silence_is_known_to_be_down_in_less_than_three_seconds() {
        for latency in [0, 1, 50, 175] {
            let mut health = Health::default();
            health.succeed(latency * MS);
            let mut took = health.pause(true) + health.limit();
            health.fail(GONE);
            took += health.pause(true) + health.limit();
            health.fail(GONE);
            assert!(!health.is_up() && took < Duration::from_secs(3), "{took:?}");
        }
    }

    #[test]
    fn small_changes_of_latency_are_not_told() {
        let mut health = Health::default();
        health.succeed(40 * MS);
        for latency in [42, 38, 45, 41] {
            health.succeed(latency * MS);
            assert_eq!(health.latency(), 40 * MS);
        }
        for _ in 0..20 {
            health.succeed(80 * MS);
        }
        assert!(health.latency() > 60 * MS);
    }
}
