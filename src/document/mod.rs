//! TOML that people write, policies and the files of operators and groups: read with places, so that whatever is wrong in
//! a file is told at once, each mistake with its line, its column and what was probably meant.

mod problem;
mod reader;

pub use problem::{LoadError, Place, Problem};
pub(crate) use problem::{Text, suggestion};
pub(crate) use reader::{Fields, Node, Reader, Shown, accept};
