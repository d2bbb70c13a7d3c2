//! The report for people who were not there: one page without any outside resource.

use minijinja::value::Serde;
use minijinja::{Environment, Value, context};

use super::Report;
use crate::error::Error;

/// The page; the name's ending makes the engine escape every value.
const NAME: &str = "vdiff.html";

pub fn render(report: &Report) -> Result<String, Error> {
    let failed = |e: minijinja::Error| Error::Render(e.to_string());
    let mut environment = Environment::new();
    environment.add_template(NAME, include_str!("vdiff.html")).map_err(failed)?;
    environment
        .get_template(NAME)
        .and_then(|page| page.render(context! { report => Value::from(Serde(report)) }))
        .map_err(failed)
}
