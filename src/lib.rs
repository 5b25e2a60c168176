#![doc = include_str!("../ARCHITECTURE.md")]

// The core: no sockets, no clock, no threads, no async.
mod document;
pub mod flow;
pub mod gateway;
pub mod jurisdiction;
pub mod names;
pub mod packet;
mod payload;
pub mod policy;
pub mod sanitize;
pub mod stack;
pub mod time;

// The shell.
pub mod cli;
pub mod config;
pub mod control;
pub mod db;
pub mod dns;
pub mod exit;
pub mod kernel;
pub mod link;
pub mod report;
pub mod run;
