//! What the measurements in a lab share: programs of this build, and a gate on a host.

use anyhow::{Context, Result, bail, ensure};
use cordon::kernel::namespace::lab::{Host, Lab};
use std::collections::HashSet;
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{env, fs, thread};

/// The program, of this build.
pub(crate) fn cordon() -> Result<PathBuf> {
    let own = env::current_exe()?;
    let directory = own
        .parent()
        .and_then(Path::parent)
        .context("no directory")?;
    let path = directory.join("cordon");
    ensure!(path.exists(), "{} is not built", path.display());
    Ok(path)
}

/// The lab that this process runs in. Outside of one, the process runs itself again in a new one, and ends as that does.
pub(crate) fn lab() -> Result<Lab> {
    if let Some(lab) = Lab::here() {
        return Ok(lab);
    }
    let own = env::current_exe()?;
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    let cordon = cordon()?.canonicalize()?;
    if nix::unistd::geteuid().is_root() {
        let program = cordon.clone();
        thread::spawn(move || let_shards_come_first(&program));
    } else {
        eprintln!("shards come first on a router, as root's; here they do not");
    }
    let code = Lab::run(&cordon, own.as_os_str(), &arguments)?;
    std::process::exit(code.into());
}

/// Gives the shards of `program` the niceness that `kernel::schedule` asks for, as long as this process lives. In a lab's
/// user namespace they may not have it, on a router they do; root may give it to them from outside.
fn let_shards_come_first(program: &Path) {
    let mut seen = HashSet::new();
    loop {
        thread::sleep(Duration::from_millis(100));
        for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
            // What is no process, has ended or is another's has no such link.
            if fs::read_link(process.path().join("exe")).is_ok_and(|exe| exe == program) {
                let tasks = fs::read_dir(process.path().join("task"));
                for task in tasks.into_iter().flatten().flatten() {
                    let name = fs::read_to_string(task.path().join("comm"));
                    if name.is_ok_and(|name| name.starts_with("shard ")) && seen.insert(task.path())
                    {
                        let mut renice = Command::new("renice");
                        renice.args(["-n", "-10", "-p"]).arg(task.file_name());
                        if !renice.output().is_ok_and(|output| output.status.success()) {
                            eprintln!("renice failed: the shards come no sooner than others");
                        }
                    }
                }
            }
        }
    }
}

/// A process that ends with this value.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let id = nix::unistd::Pid::from_raw(self.0.id() as i32);
        let _ = nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

/// Starts the daemon on a host, with a control socket beside its configuration, and waits until the gate is closed.
pub(crate) fn gate(host: &Host, config: &Path) -> Result<Running> {
    let text = fs::read_to_string(config)?;
    if !text.contains("[control]") {
        let socket = config.with_extension("sock");
        fs::write(config, format!("{text}\n[control]\nsocket = {socket:?}\n"))?;
    }
    let mut child = host.run(|| {
        let mut command = Command::new(cordon()?);
        command.args(["run", "--config"]).arg(config);
        Ok(command.stderr(Stdio::piped()).spawn()?)
    })?;
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    for line in said.by_ref() {
        if line?.contains("the gate is closed") {
            thread::spawn(move || said.for_each(drop));
            return Ok(Running(child));
        }
    }
    bail!("cordon ended before it began");
}

/// The directory of a gate in `/proc`, which has the numbers of the outer processes; the lab's own are at the end of
/// `NSpid`.
pub(crate) fn proc_of(gate: &Running) -> Result<PathBuf> {
    let id = format!("\t{}", gate.0.id());
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        let Ok(status) = fs::read_to_string(path.join("status")) else {
            continue;
        };
        let mut lines = status.lines();
        let is_it = lines.any(|line| line.starts_with("NSpid:") && line.ends_with(&id));
        if is_it && status.starts_with("Name:\tcordon") {
            return Ok(path);
        }
    }
    bail!("the gate has ended");
}
