//! `converge vdiff`.

use super::{Failure, Outcome};

#[derive(Debug, clap::Args)]
pub struct Arguments {}

pub async fn run(_arguments: Arguments) -> Result<Outcome, Failure> {
    Err(Failure::new("not here yet"))
}
