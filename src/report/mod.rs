//! What was seen, told to people and programs.

pub mod audit;
pub mod html;
pub mod judged;
pub mod lines;
pub mod text;
pub mod totals;
