//! The report of a rehearsal as a directory of files: `verdict.json` for programs, `report.html` for people who were
//! not there, and a text for the terminal.
//!
//! Nothing here judges: the verdict and what it rests on come in a [`RunReport`], and what was not verified is shown as
//! loudly as what was. Values of rows are hostile: whatever they hold, they reach a reader as text.

mod chart;
mod html;
mod svg;
mod text;
mod timeline;

use std::path::{Path, PathBuf};

use miette::Diagnostic;
use thiserror::Error;

use crate::verdict::RunReport;

pub use text::text;

/// The machine-readable report's name in its directory.
pub const VERDICT: &str = "verdict.json";
/// The page's name in its directory.
pub const PAGE: &str = "report.html";

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The [`RunReport`] as JSON.
    pub verdict: PathBuf,
    /// The page.
    pub page: PathBuf,
}

/// A report that could not be written.
#[derive(Debug, Error, Diagnostic)]
pub enum ReportError {
    /// A file of the report.
    #[error("{what} {}: {why}", .path.display())]
    #[diagnostic(help("check space and permissions there, or choose another directory with --report"))]
    Io {
        /// What was attempted.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// The system's words.
        why: std::io::Error,
    },
    /// The report has no JSON form.
    #[error("the report cannot be written as JSON: {0}")]
    #[diagnostic(help(
        "this is a defect of Converge; the history and the logs in the report's directory are complete"
    ))]
    Json(serde_json::Error),
    /// The page's template does not take the report.
    #[error("the page cannot be made: {0}")]
    #[diagnostic(help(
        "this is a defect of Converge; verdict.json beside it has everything but the timeline"
    ))]
    Page(minijinja::Error),
}

impl ReportError {
    fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |why| Self::Io { what, path, why }
    }
}

/// Removes the report of a former run from a directory that is used again, so that a run which dies leaves no verdict
/// of another one behind.
pub fn clear(directory: &Path) -> Result<(), ReportError> {
    for name in [VERDICT, PAGE] {
        let path = directory.join(name);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(ReportError::io("removing", &path)(e));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Writes the report into a directory that exists. `history` is read entry by entry for the timeline; if it cannot be
/// read, the page says so, and everything else is there.
pub fn write(directory: &Path, report: &RunReport, history: &Path) -> Result<Files, ReportError> {
    let files = Files { verdict: directory.join(VERDICT), page: directory.join(PAGE) };
    let json = serde_json::to_string_pretty(report).map_err(ReportError::Json)? + "\n";
    std::fs::write(&files.verdict, json).map_err(ReportError::io("writing", &files.verdict))?;
    let timeline = timeline::Timeline::read(history);
    let page = html::page(report, &timeline, directory).map_err(ReportError::Page)?;
    std::fs::write(&files.page, page).map_err(ReportError::io("writing", &files.page))?;
    Ok(files)
}

#[cfg(test)]
mod tests;
