//! `converge vdiff`.

mod arguments;
mod display;
mod run;

pub use arguments::Arguments;
pub use run::run;
