//! Runs a comparison and writes its answer. What the answer is, is decided in the library alone.

use std::path::Path;

use converge_vdiff::report::junit_of_failure;
use converge_vdiff::{Progress, Repair, Report, Verdict, compare, compare_and_repair};

use super::Arguments;
use super::display::Display;
use crate::cli::{Failure, Format, Outcome};

/// Compares, shows how far it is, writes the reports, and says what came out.
pub async fn run(arguments: Arguments) -> Result<Outcome, Failure> {
    let files = &arguments.answer;
    [&files.report, &files.json, &files.junit, &arguments.repair.repair_sql]
        .into_iter()
        .flatten()
        .try_for_each(|path| placeable(path))?;
    let mut report = match compared(&arguments).await {
        Ok(report) => report,
        Err(failure) => {
            // Whoever reads only this file must not take an old one for today's answer.
            write(files.junit.as_deref(), || {
                Ok(junit_of_failure(&arguments.tables(), &failure.to_string())?)
            })?;
            return Err(failure);
        }
    };
    if files.redact {
        report.redact();
    }
    write(files.report.as_deref(), || Ok(report.to_html()?))?;
    write(files.json.as_deref(), || Ok(report.to_json() + "\n"))?;
    write(files.junit.as_deref(), || Ok(report.to_junit()?))?;
    print(&report, files.format)?;
    Ok(match report.verdict {
        Verdict::Equal => Outcome::Good,
        Verdict::Different => Outcome::Different,
        Verdict::NotProven => Outcome::NotProven,
    })
}

async fn compared(arguments: &Arguments) -> Result<Report, Failure> {
    let request = arguments.request()?;
    let display = Display::new();
    let tell = |progress: Progress| display.tell(progress);
    let repair = Repair { script: arguments.repair.repair_sql.clone(), apply: arguments.repair.repair };
    let answered = async {
        match repair.apply || repair.script.is_some() {
            true => compare_and_repair(&request, &repair, &tell).await,
            false => compare(&request, &tell).await,
        }
    };
    let result = tokio::select! {
        result = answered => result,
        _ = tokio::signal::ctrl_c() => {
            display.clear();
            let changed = match repair.apply {
                true => "what the repair had committed stays",
                false => "nothing was changed on either server",
            };
            return Err(Failure::new("interrupted: nothing can be said about the tables")
                .with_help(format!("run the same command again; {changed}")));
        }
    };
    display.clear();
    Ok(result.map_err(|error| if arguments.answer.redact { error.redacted() } else { error })?)
}

/// A typing error in a file's name must not come out after hours.
fn placeable(path: &Path) -> Result<(), Failure> {
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if directory.is_dir() && !path.is_dir() {
        return Ok(());
    }
    Err(Failure::new(format!("cannot write to {}", path.display()))
        .with_help("name a file in a directory that exists and may be written to"))
}

/// Writes one of the files that were asked for.
fn write(path: Option<&Path>, text: impl FnOnce() -> Result<String, Failure>) -> Result<(), Failure> {
    let Some(path) = path else { return Ok(()) };
    std::fs::write(path, text()?).map_err(|e| {
        Failure::new(format!("cannot write to {}: {e}", path.display()))
            .with_help("name a file in a directory that exists and may be written to")
    })
}

/// Writes the answer; a reader that goes away early must not turn it into a panic.
fn print(report: &Report, format: Format) -> Result<(), Failure> {
    use std::io::Write as _;
    let text = match format {
        Format::Json => report.to_json() + "\n",
        Format::Text => report.to_text(),
    };
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|e| Failure::new(format!("cannot write the answer to standard output: {e}")))
}
