//! `cordon check`: Parse and lint policies and run their own tests.

use super::machine::Machine;
use super::policy::{Data, load};
use crate::policy::{Policy, Problem};
use anyhow::Result;
use serde::Serialize;
use std::path::PathBuf;
use std::process::ExitCode;

/// Parse and lint policies and run their own tests.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 all is well (there may be warnings), 1 a policy has errors or a test failed,\n\
    2 a file cannot be read.\n\nExample:\n  cordon check policies/*.toml"
)]
pub(super) struct Args {
    /// Policy files.
    #[arg(required = true, value_name = "POLICY")]
    policies: Vec<PathBuf>,
    /// One JSON object for each error, warning, test and policy.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    machine: Machine,
}

/// One line of `--json`.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Line<'a> {
    Error(Place<'a>),
    Warning(Place<'a>),
    Test {
        file: &'a str,
        line: u32,
        flow: &'a str,
        expected: &'a str,
        found: &'a str,
        passed: bool,
    },
    Policy {
        file: &'a str,
        name: &'a str,
        rules: usize,
        errors: usize,
        warnings: usize,
        tests: usize,
        failed: usize,
    },
}

#[derive(Debug, Serialize)]
struct Place<'a> {
    file: &'a str,
    line: u32,
    column: u32,
    message: &'a str,
}

impl<'a> Place<'a> {
    fn of(problem: &'a Problem) -> Self {
        Self {
            file: &problem.place.file,
            line: problem.place.line,
            column: problem.place.column,
            message: &problem.message,
        }
    }
}

pub(super) fn run(args: Args) -> Result<ExitCode> {
    let data = args.machine.data()?;
    let mut status = 0;
    for path in &args.policies {
        let file = path.display().to_string();
        let worst = match load(path, &data) {
            Ok(Ok(policy)) if checked(&file, &policy, &data, args.json)? => 0,
            Ok(Ok(_)) => 1,
            Ok(Err(error)) => {
                broken(&file, error.problems(), args.json)?;
                1
            }
            // The others are checked all the same.
            Err(error) => {
                eprintln!("cordon: {error:#}");
                2
            }
        };
        status = status.max(worst);
    }
    Ok(ExitCode::from(status))
}

/// A policy that cannot be used.
fn broken(file: &str, problems: &[Problem], json: bool) -> Result<()> {
    for problem in problems {
        if json {
            print(&Line::Error(Place::of(problem)))?;
        } else {
            println!("{}: error: {}", problem.place, problem.message);
        }
    }
    if json {
        return print(&Line::Policy {
            file,
            name: "",
            rules: 0,
            errors: problems.len(),
            warnings: 0,
            tests: 0,
            failed: 0,
        });
    }
    println!("{file}: {}", count(problems.len(), "error"));
    Ok(())
}

/// A policy that can: what is doubtful about it, and how its tests come out. True if none failed.
fn checked(file: &str, policy: &Policy, data: &Data, json: bool) -> Result<bool> {
    let warnings = policy.lint();
    let results = policy.run_tests(&data.data);
    let failed = results.iter().filter(|result| !result.passed).count();
    let rules = policy.rule_ids().count();
    if json {
        for warning in &warnings {
            print(&Line::Warning(Place::of(warning)))?;
        }
        for result in &results {
            print(&Line::Test {
                file: &result.place.file,
                line: result.place.line,
                flow: &result.flow,
                expected: &result.expected,
                found: &result.found,
                passed: result.passed,
            })?;
        }
        print(&Line::Policy {
            file,
            name: policy.name(),
            rules,
            errors: 0,
            warnings: warnings.len(),
            tests: results.len(),
            failed,
        })?;
        return Ok(failed == 0);
    }
    for warning in &warnings {
        println!("{}: warning: {}", warning.place, warning.message);
    }
    for result in results.iter().filter(|result| !result.passed) {
        println!(
            "{}: test failed: {}: expected {}, found {}",
            result.place, result.flow, result.expected, result.found
        );
    }
    println!(
        "{file}: {}, {}, {}{}",
        count(rules, "rule"),
        count(warnings.len(), "warning"),
        count(results.len(), "test"),
        match (results.len(), failed) {
            (0, _) => String::new(),
            (_, 0) => " passed".into(),
            (_, failed) => format!(", {failed} failed"),
        }
    );
    Ok(failed == 0)
}

fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

fn print(line: &Line<'_>) -> Result<()> {
    println!("{}", serde_json::to_string(line)?);
    Ok(())
}
