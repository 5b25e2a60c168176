//! What was seen, told to people and programs.

pub mod audit;
