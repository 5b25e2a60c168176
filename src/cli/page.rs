//! The report as a file.

use crate::report::html;
use crate::report::totals::Totals;
use anyhow::{Context, Result};
use std::path::Path;

/// Writes the page; the error names the file.
pub(super) fn write(path: &Path, policy: &str, totals: &Totals) -> Result<()> {
    std::fs::write(path, html::page(policy, totals))
        .with_context(|| format!("cannot write {}", path.display()))
}
