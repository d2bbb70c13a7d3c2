//! The command line that a request stands for, so that whoever reads a report can run it again. Never with a password.

use converge_mysql::names;

use super::{Engine, Options, ProofSource, Request};

impl Request {
    /// The command to run again, without passwords. Options that are at their defaults are left out.
    pub fn command(&self) -> String {
        let tables: Vec<String> = self.tables.iter().map(ToString::to_string).collect();
        let mut words = vec!["converge vdiff".to_owned()];
        words.extend(self.source.iter().map(|shard| option("source", &shard.without_password())));
        words.extend(self.target.iter().map(|shard| option("target", &shard.without_password())));
        // Those that a database had at the time are in the report.
        if !tables.is_empty() && self.options.all_tables.is_none() {
            words.push(option("tables", &tables.join(",")));
        }
        words.extend(self.options.words());
        words.join(" ")
    }
}

impl Options {
    fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        match &self.proof {
            ProofSource::Stillness => {}
            ProofSource::Workflow(name) => words.push(option("workflow", name)),
            ProofSource::Replica => words.push("--replica".into()),
        }
        if let Some(exclude) = &self.all_tables {
            words.push("--all-tables".into());
            let exclude: Vec<String> = exclude.iter().map(|name| names::spelled(name)).collect();
            words.extend((!exclude.is_empty()).then(|| option("exclude", &exclude.join(","))));
        }
        if self.engine != Engine::Auto {
            words.push(option("engine", self.engine.as_str()));
        }
        if self.parallel != Self::default().parallel {
            words.push(option("parallel", &self.parallel.to_string()));
        }
        if let Some(most) = self.max_duration {
            words.push(option("max-duration", &format!("{}ms", most.as_millis())));
        }
        if let Some(directory) = &self.state {
            words.push(option("state", &directory.display().to_string()));
        }
        if !self.max_load.is_empty() {
            let limits: Vec<String> = self.max_load.iter().map(ToString::to_string).collect();
            words.push(option("max-load", &limits.join(",")));
        }
        words.extend(self.max_lag.map(|lag| option("max-lag", &lag.as_secs().to_string())));
        words.extend(self.filters.iter().map(|filter| option("where", &filter.to_string())));
        if let Some(sample) = &self.sample {
            words.push(option("sample", &sample.share()));
            words.push(option("seed", &sample.seed.to_string()));
        }
        for (name, list) in [
            ("columns", &self.columns),
            ("ignore-columns", &self.ignore_columns),
            ("rename-columns", &self.rename_columns),
        ] {
            if !list.is_empty() {
                words.push(option(name, &list.join(",")));
            }
        }
        words
    }
}

/// One option, its value quoted for a shell.
fn option(name: &str, value: &str) -> String {
    format!("--{name} '{}'", value.replace('\'', "'\\''"))
}
