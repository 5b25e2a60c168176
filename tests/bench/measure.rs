//! What the labs measure with: loads on hosts, the processors' time, medians.

use crate::bed::Running;
use anyhow::{Result, ensure};
use cordon::kernel::namespace::lab::Host;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

/// What a test of a path gave.
#[derive(Clone, Copy, Default)]
pub(crate) struct Value {
    pub(crate) number: f64,
    /// Seconds of all processors.
    pub(crate) busy: f64,
    /// Bytes that were moved.
    pub(crate) bytes: f64,
}

/// A program of this build.
pub(crate) fn built(name: &str) -> Result<PathBuf> {
    let own = env::current_exe()?;
    let path = own.with_file_name(name);
    ensure!(path.exists(), "{} is not built", path.display());
    Ok(path)
}

impl Value {
    pub(crate) fn of(number: f64) -> Self {
        Self {
            number,
            ..Self::default()
        }
    }
}

/// Starts a load on a host; its first line, and the process.
pub(crate) fn start(host: &Host, program: &Path, words: &[&str]) -> Result<(String, Running)> {
    let mut child = host.run(|| {
        let mut command = Command::new(program);
        Ok(command.args(words).stdout(Stdio::piped()).spawn()?)
    })?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line)?;
    let running = Running(child);
    ensure!(!line.is_empty(), "{words:?} gave nothing");
    Ok((line.trim().to_owned(), running))
}

/// Seconds that all processors were busy (proc(5), `/proc/stat`, in hundredths).
pub(crate) fn busy() -> Result<f64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let fields: Vec<f64> = stat
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .filter_map(|field| field.parse().ok())
        .collect();
    // user, nice, system, idle, iowait, irq, softirq
    let busy = [0, 1, 2, 5, 6].iter().map(|at| fields[*at]).sum::<f64>();
    Ok(busy / 100.0)
}

pub(crate) fn median(values: &[Value], of: impl Fn(&Value) -> f64) -> f64 {
    let mut numbers: Vec<f64> = values.iter().map(of).collect();
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

/// Runs one test from a host against a server, for so many seconds where that is for it to say.
pub(crate) fn measure(host: &Host, test: &str, to: &str, seconds: u64) -> Result<Value> {
    let lasting = seconds.to_string();
    let words = match test {
        "up1" => ["up", to, "1", &lasting].to_vec(),
        "down1" => ["down", to, "1", &lasting].to_vec(),
        "up8" => ["up", to, "8", &lasting].to_vec(),
        "down8" => ["down", to, "8", &lasting].to_vec(),
        "udp" => ["udp", to, "1200"].to_vec(),
        other => [other, to, &lasting].to_vec(),
    };
    let before = busy()?;
    let (said, _ended) = start(host, &built("load")?, &words)?;
    let number: f64 = said.split(' ').next().unwrap_or("").parse()?;
    let stream = matches!(test, "up1" | "down1" | "up8" | "down8" | "put");
    Ok(Value {
        number,
        busy: busy()? - before,
        bytes: if stream {
            number * 1e6 / 8.0 * seconds as f64
        } else {
            0.0
        },
    })
}
