//! Everything flows are judged by, from the command line.

use super::policy::{Data, load_or_observe, parse};
use crate::config::Config;
use crate::gateway::Snapshot;
use crate::kernel::heap;
use crate::policy::Policy;
use crate::sanitize::{Kind, Sanitizer, Secret};
use anyhow::{Result, bail};
use ring::rand::{SecureRandom, SystemRandom};
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// Has no core dump of this process be written, nor its memory be read by others of the same user: there are secrets in it.
/// What it starts is not affected (prctl(2), `PR_SET_DUMPABLE`).
pub(super) fn keep_from_core_dumps() {
    if let Err(error) = nix::sys::prctl::set_dumpable(false) {
        tracing::warn!(%error, "core dumps of this process may hold secrets");
    }
}

/// Policy, data and detectors. Without a policy's file it is the one that only observes.
pub(super) fn snapshot(
    policy: Option<&Path>,
    data: Data,
    secrets: &[(String, String)],
) -> Result<Arc<Snapshot>> {
    let policy = load_or_observe(policy, &data)?;
    join(policy, data, secrets)
}

/// A policy and data that are part of the program.
pub(super) fn built_in(
    (name, text): (&str, &str),
    secrets: &[(String, String)],
) -> Result<Arc<Snapshot>> {
    let data = Data::embedded()?;
    let policy = parse(name, text, &data)?;
    join(policy, data, secrets)
}

/// As [`snapshot`], for a gate that goes live, with the data and the secrets that are configured: only if the policy passes its own tests.
pub(super) fn tested(policy: &Path, config: &Config) -> Result<Arc<Snapshot>> {
    let data = Data::configured(&config.db)?;
    let policy = load_or_observe(Some(policy), &data)?;
    if let Some(test) = policy
        .run_tests(&data.data)
        .into_iter()
        .find(|test| !test.passed)
    {
        bail!(
            "{}: a test of the policy fails: {} should be {:?} and is {:?}; `cordon check` tells more",
            test.place,
            test.flow,
            test.expected,
            test.found
        );
    }
    let secrets: Vec<(String, String)> = config.secrets.clone().into_iter().collect();
    join(policy, data, &secrets)
}

/// `NAME=VALUE` of a declared secret.
pub(super) fn secret(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err("a secret is declared as NAME=VALUE".to_owned()),
    }
}

fn join(policy: Policy, data: Data, secrets: &[(String, String)]) -> Result<Arc<Snapshot>> {
    let secrets = secrets
        .iter()
        .map(|(name, value)| Secret::new(name, value, Kind::Guess))
        .collect::<Result<Vec<_>, _>>()?;
    let sanitizer = Sanitizer::new(&secrets)?.with_key(pseudonym_key()?);
    heap::give_back();
    Ok(Arc::new(Snapshot {
        policy,
        data: Arc::new(data.data),
        sanitizer,
    }))
}

/// The key of pseudonyms: new with each start and kept over reloads, so that a name changes neither in the middle of a
/// call nor stays the same for ever.
fn pseudonym_key() -> Result<&'static [u8; 32]> {
    static KEY: OnceLock<[u8; 32]> = OnceLock::new();
    if let Some(key) = KEY.get() {
        return Ok(key);
    }
    let mut fresh = [0; 32];
    if SystemRandom::new().fill(&mut fresh).is_err() {
        bail!("the system gives no randomness");
    }
    Ok(KEY.get_or_init(|| fresh))
}
