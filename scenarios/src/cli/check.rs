//! `converge move check`: preflight as a table for people or as JSON for scripts. It writes nothing anywhere.

use clap::Args;
use converge_mover::copy::Strategy;
use converge_mover::preflight::{self, Accepted, Finding, Report, Request, Weight};
use converge_scenarios::words::counted;
use converge_vdiff::TablePair;

use super::arguments::{Listed, pairs, tables};
use super::{Failure, Format, Outcome, print, print_json};

/// Columns of the text form.
const WIDTH: usize = 120;

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  converge move check --source mysql://mover:pw@db1:3306/shop \\
    --target mysql://mover:pw@db2:3306/shop --tables customer,corder

`move run` asks the same questions before it begins, so tables of a move that
runs already are refused here as not empty. It needs the same privileges;
missing ones are findings, each with its GRANT.

JSON: {\"format\": 1, \"verdict\": \"pass\"|\"warn\"|\"refuse\", \"source\": …, \"target\":
…, \"findings\": [{\"weight\": \"pass\"|\"warn\"|\"refuse\", \"name\": …, \"side\":
\"source\"|\"target\"|null, \"table\": …|null, \"what\": …, \"fix\": …|null}, …],
\"not_checked\": [\"…\"]}. Names of findings do not change; fields may be added.

It ends with 0 if nothing forbids the move (there may be warnings), with 2 if
it is refused or a server gave no answer.")]
pub struct Arguments {
    /// The source: mysql://user:password@host:port/database
    #[arg(long, value_name = "URL")]
    source: String,
    /// The target: mysql://user:password@host:port/database
    #[arg(long, value_name = "URL")]
    target: String,
    /// Tables to move; source=target where the name changes
    #[arg(long, value_name = "A,B", value_parser = tables, required = true)]
    tables: Vec<Listed<TablePair>>,
    /// How rows are to be copied: some ways need more privileges; see `move run --help`
    #[arg(long, value_name = "STRATEGY", default_value_t)]
    copy_strategy: Strategy,
    /// Accept foreign keys that cascade although the server does not log what they change
    #[arg(long)]
    i_know: bool,
    /// Accept tables without a usable key
    #[arg(long)]
    allow_no_key: bool,
    /// Look for what stands against building secondary keys after the copy
    #[arg(long)]
    defer_secondary_keys: bool,
    /// How to answer
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// Runs the command.
pub async fn run(arguments: Arguments) -> Result<Outcome, Failure> {
    let request = Request {
        source: arguments.source.parse()?,
        target: arguments.target.parse()?,
        tables: pairs(&arguments.tables),
        strategy: arguments.copy_strategy,
        defer_secondary_keys: arguments.defer_secondary_keys,
        accepted: Accepted { unlogged_cascades: arguments.i_know, no_key: arguments.allow_no_key },
    };
    let report = preflight::check(&request).await?;
    match arguments.format {
        Format::Json => print_json(&report)?,
        Format::Text => print(&(text(&report) + "\n"))?,
    }
    match report.verdict {
        Weight::Refuse => {
            let refused = forbidding(report.count(Weight::Refuse));
            Err(Failure::new(format!("refused: {refused} this move"))
                .with_help("carry out what is named behind `fix:` and check again"))
        }
        Weight::Pass | Weight::Warn => Ok(Outcome::Good),
    }
}

fn text(report: &Report) -> String {
    let mut lines = vec![format!("{} -> {}", report.source, report.target), String::new()];
    let name_width = report.findings.iter().map(|f| f.name.len()).max().unwrap_or(0);
    for finding in &report.findings {
        lines.extend(finding_lines(finding, name_width));
    }
    lines.extend([String::new(), "NOT checked".into()]);
    for what in &report.not_checked {
        lines.extend(wrapped(what, "  - ", "    "));
    }
    let (refused, warned) =
        (forbidding(report.count(Weight::Refuse)), counted(report.count(Weight::Warn), "warning"));
    let verdict = match report.verdict {
        Weight::Refuse => format!("REFUSED: {refused} the move; {warned}"),
        Weight::Warn => format!("OK, with {warned}"),
        Weight::Pass => "OK".into(),
    };
    lines.extend([String::new(), verdict]);
    lines.join("\n")
}

/// `1 finding forbids`, `2 findings forbid`.
fn forbidding(findings: usize) -> String {
    format!("{} forbid{}", counted(findings, "finding"), if findings == 1 { "s" } else { "" })
}

fn finding_lines(finding: &Finding, name_width: usize) -> Vec<String> {
    let weight = match finding.weight {
        Weight::Pass => "pass",
        Weight::Warn => "WARN",
        Weight::Refuse => "REFUSE",
    };
    let side = finding.side.map(|s| s.to_string()).unwrap_or_else(|| "both".into());
    let first = format!("{weight:<7} {:<name_width$}  {side:<6}  ", finding.name);
    let rest = " ".repeat(first.len());
    // A finding that names its table needs no second naming.
    let table = finding.table.iter().filter(|t| !finding.what.contains(*t));
    let what = table.map(|t| format!("{t}: ")).collect::<String>() + &finding.what;
    let mut lines = wrapped(&what, &first, &rest);
    if let Some(fix) = &finding.fix {
        lines.extend(wrapped(&format!("fix: {fix}"), &rest, &rest));
    }
    lines
}

/// Breaks text between words; a line is longer only where one word is.
fn wrapped(text: &str, first: &str, rest: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let (mut line, mut empty) = (first.to_owned(), true);
    for word in text.split(' ') {
        if !empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(std::mem::replace(&mut line, rest.to_owned()));
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_finding_forbids_and_two_forbid() {
        assert_eq!([1, 2].map(forbidding), ["1 finding forbids", "2 findings forbid"]);
    }

    #[test]
    fn long_findings_are_broken_between_words_and_lose_none() {
        let what = "word ".repeat(60);
        let lines = wrapped(what.trim(), "REFUSE x ", "         ");
        assert!(lines.len() > 2 && lines.iter().all(|l| l.chars().count() <= WIDTH), "{lines:?}");
        assert_eq!(lines.join(" ").matches("word").count(), 60);
        assert_eq!(wrapped(&"x".repeat(200), "a ", "b "), [format!("a {}", "x".repeat(200))]);
    }
}
