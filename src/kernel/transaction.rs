//! Changes to the machine that are made whole or not at all, and can be taken back.
use super::netlink::{Netlink, Route, Rule, errno};
use super::nft::{Batch, Nft};
use super::settings::Setting;
use anyhow::{Context, Result};

/// One change.
#[derive(Debug)]
pub enum Step {
    /// Tables of the packet filter.
    Filter {
        /// Installs them.
        install: Batch,
        /// Takes them back.
        remove: Batch,
        /// They stay when a later step fails: what an earlier run has closed, a failed start must not open.
        stays: bool,
    },
    /// Takes away what an earlier run has left. There is no way back from it, nor need of one.
    Forget(fn(&mut Netlink) -> Result<()>),
    /// Kernel settings.
    Settings {
        /// The new values, in the order in which they are set.
        apply: Vec<Setting>,
        /// The old ones, in the order in which they are put back.
        restore: Vec<Setting>,
    },
    /// A route.
    Route(Route),
    /// A policy rule.
    Rule(Rule),
}

/// Changes that were made.
///
/// Dropping it leaves them in place, as `kill -9` would: what was closed stays closed until [`Transaction::undo`].
#[derive(Debug)]
#[must_use = "the changes stay until they are undone"]
pub struct Transaction {
    netlink: Netlink,
    nft: Nft,
    done: Vec<Step>,
}

impl Transaction {
    /// Takes all steps in order, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// If a step fails. The steps before it are taken back, in reverse order, and nothing is left.
    pub fn begin(steps: Vec<Step>) -> Result<Self> {
        let mut transaction = Self {
            netlink: Netlink::open()?,
            nft: Nft::open()?,
            done: Vec::new(),
        };
        for step in steps {
            if let Err(error) = transaction.take(step) {
                return Err(match transaction.back(false) {
                    Ok(()) => error,
                    Err(also) => error.context(format!("not all could be taken back: {also:#}")),
                });
            }
        }
        Ok(transaction)
    }

    /// Takes all changes back, in reverse order, as far as they are still there. To be called in the same network
    /// namespace: settings are the calling thread's.
    ///
    /// # Errors
    /// The first change that could not be taken back; the others are.
    pub fn undo(mut self) -> Result<()> {
        self.back(true)
    }

    /// Installs the tables of the packet filter once more.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn filter_again(&self) -> Result<()> {
        for step in &self.done {
            if let Step::Filter { install, .. } = step {
                Nft::open()?.commit(install)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, step: Step) -> Result<()> {
        match &step {
            Step::Filter { install, .. } => self.nft.commit(install)?,
            Step::Forget(clear) => clear(&mut self.netlink)?,
            Step::Route(route) => self.netlink.add_route(route)?,
            Step::Rule(rule) => self.netlink.add_rule(rule)?,
            Step::Settings { apply, restore } => {
                if let Err(error) = apply.iter().try_for_each(Setting::apply) {
                    restore.iter().try_for_each(Setting::apply)?;
                    return Err(error);
                }
            }
        }
        self.done.push(step);
        Ok(())
    }

    fn back(&mut self, all: bool) -> Result<()> {
        let mut outcome = Ok(());
        while let Some(step) = self.done.pop() {
            let taken = match step {
                Step::Forget(_) => Ok(()),
                Step::Filter { stays: true, .. } if !all => Ok(()),
                Step::Filter { remove, .. } => self.nft.commit(&remove),
                Step::Settings { restore, .. } => restore.iter().try_for_each(Setting::apply),
                Step::Route(route) => vanished(self.netlink.remove_route(&route)),
                Step::Rule(rule) => vanished(self.netlink.remove_rule(&rule)),
            };
            outcome = outcome.and(taken);
        }
        outcome.context("the machine is not quite as it was")
    }
}

/// What is not there any more need not be removed: routes go with their interface.
pub(super) fn vanished(result: Result<()>) -> Result<()> {
    match result {
        Err(error)
            if matches!(
                errno(&error),
                Some(libc::ENOENT | libc::ESRCH | libc::ENODEV)
            ) =>
        {
            Ok(())
        }
        other => other,
    }
}
