//! How a command says that it could not do its work: what failed, why, what to do.

use std::fmt;

use miette::Diagnostic;

/// An error on its way to standard error and exit code 2.
#[derive(Debug)]
pub struct Failure {
    what: String,
    why: Vec<String>,
    what_to_do: Option<String>,
}

impl Failure {
    /// A failure that is explained by one sentence.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), why: Vec::new(), what_to_do: None }
    }

    /// Adds what the operator can do about it.
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.what_to_do = Some(help.into());
        self
    }
}

impl<E: Diagnostic> From<E> for Failure {
    fn from(error: E) -> Self {
        // Who passes an error on has often nothing to add to its way out.
        let passed_on = || error.diagnostic_source().and_then(|inner| Some(inner.help()?.to_string()));
        let what_to_do = error.help().map(|h| h.to_string()).or_else(passed_on);
        let (what, mut why) = (error.to_string(), Vec::new());
        let mut cause = std::error::Error::source(&error);
        while let Some(e) = cause {
            let words = e.to_string();
            // Some tell their cause in their own words.
            if !why.last().unwrap_or(&what).contains(&words) {
                why.push(words);
            }
            cause = e.source();
        }
        Self { what, why, what_to_do }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.what)?;
        for why in &self.why {
            write!(f, "\n  because: {why}")?;
        }
        if let Some(help) = &self.what_to_do {
            write!(f, "\n  what to do: {help}")?;
        }
        Ok(())
    }
}
