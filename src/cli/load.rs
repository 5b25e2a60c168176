//! Everything flows are judged by, from the command line.

use super::policy::{Data, load_or_observe};
use crate::gateway::Snapshot;
use crate::sanitize::{Kind, Sanitizer, Secret};
use anyhow::{Result, bail};
use std::path::Path;
use std::sync::Arc;

/// Policy, data and detectors. Without a policy's file it is the one that only observes.
pub(super) fn snapshot(
    policy: Option<&Path>,
    secrets: &[(String, String)],
) -> Result<Arc<Snapshot>> {
    let data = Data::embedded()?;
    let policy = load_or_observe(policy, &data)?;
    let secrets = secrets
        .iter()
        .map(|(name, value)| Secret::new(name, value, Kind::Guess))
        .collect::<Result<Vec<_>, _>>()?;
    let sanitizer = Sanitizer::new(&secrets)?;
    Ok(Arc::new(Snapshot {
        policy,
        data: Arc::new(data.data),
        sanitizer,
    }))
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

/// The same for a gate that goes live: only if the policy passes its own tests.
pub(super) fn tested(policy: &Path, secrets: &[(String, String)]) -> Result<Arc<Snapshot>> {
    let snapshot = snapshot(Some(policy), secrets)?;
    let failed = snapshot
        .policy
        .run_tests(&snapshot.data)
        .into_iter()
        .find(|test| !test.passed);
    match failed {
        None => Ok(snapshot),
        Some(test) => bail!(
            "{}: a test of the policy fails: {} should be {:?} and is {:?}; `cordon check` tells more",
            test.place,
            test.flow,
            test.expected,
            test.found
        ),
    }
}
