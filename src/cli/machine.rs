//! What a command judges by: the configuration of this machine, and data beside it.

use super::policy::Data;
use crate::config::{Config, DEFAULT_PATH};
use crate::db;
use anyhow::Result;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Options of every command that looks addresses up.
#[derive(Debug, clap::Args)]
pub(super) struct Machine {
    /// This machine's configuration, instead of /etc/cordon/cordon.toml; where neither is, what holds by default.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A data file (mmdb or compact) to be asked before all others; may be given several times.
    #[arg(long, value_name = "FILE")]
    db: Vec<PathBuf>,
}

impl Machine {
    /// The configuration, with the files of the command line among its data.
    pub(super) fn config(&self) -> Result<Config> {
        let mut config = config(self.config.as_deref())?;
        config.db.ask_first(&self.db);
        Ok(config)
    }

    /// The data, and the groups of countries; what the user should know of it is said.
    pub(super) fn data(&self) -> Result<Data> {
        Data::configured(&self.config()?.db)
    }
}

/// The configuration that is named; without a name the one at its usual place, and where there is none, what holds by
/// default. One that only others may read is not this user's: that is said.
pub(super) fn config(named: Option<&Path>) -> Result<Config> {
    if let Some(path) = named {
        return Config::read(path);
    }
    let usual = Path::new(DEFAULT_PATH);
    match File::open(usual).map_err(|error| error.kind()) {
        Err(ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(Config::default()),
        Err(ErrorKind::PermissionDenied) => {
            let instead = "going by what the program carries";
            warn(&[format!("{DEFAULT_PATH} may not be read: {instead}")]);
            Ok(Config::default())
        }
        _ => Config::read(usual),
    }
}

/// Everything that is configured, loaded; what the user should know of it is said.
pub(super) fn load(settings: &db::Settings) -> Result<db::Loaded> {
    let loaded = db::load(settings, db::now())?;
    warn(&loaded.warnings);
    Ok(loaded)
}

/// Tells what the user should know, apart from the answer.
fn warn(warnings: &[String]) {
    for warning in warnings {
        eprintln!("cordon: warning: {warning}");
    }
}
