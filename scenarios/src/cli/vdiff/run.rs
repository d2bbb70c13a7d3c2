//! Runs a comparison and writes its answer. What the answer is, is decided in the library alone.

use std::path::{Path, PathBuf};

use converge_vdiff::report::junit_of_failure;
use converge_vdiff::{Progress, Repair, Report, Verdict, compare, compare_and_repair, unless};

use super::Arguments;
use super::display::Display;
use crate::cli::{Failure, Format, Outcome, interrupted, print};

/// Compares, shows how far it is, says what came out, and writes the reports.
pub async fn run(arguments: Arguments) -> Result<Outcome, Failure> {
    let files = &arguments.answer;
    let reports = [&files.report, &files.json, &files.junit].into_iter().flatten();
    let repair = Repair { script: arguments.repair.repair_sql.clone(), apply: arguments.repair.repair };
    let scripts = repair.files();
    let named: Vec<&Path> = reports.chain(&scripts).map(PathBuf::as_path).collect();
    placeable(&named)?;
    let mut report = match compared(&arguments, &repair).await {
        Ok(report) => report,
        Err(failure) => {
            // Whoever reads only this file must not take an old one for today's answer.
            let undone = || Ok(junit_of_failure(&arguments.tables(), &failure.to_string())?);
            if let Err(unwritten) = write(files.junit.as_deref(), undone) {
                note!("{unwritten}");
            }
            return Err(failure);
        }
    };
    if files.redact {
        report.redact();
    }
    // What can be told is told, whatever else cannot be: it may have taken hours.
    let told = [
        print(&match files.format {
            Format::Json => report.to_json() + "\n",
            Format::Text => report.to_text(),
        }),
        write(files.report.as_deref(), || Ok(report.to_html()?)),
        write(files.json.as_deref(), || Ok(report.to_json() + "\n")),
        write(files.junit.as_deref(), || Ok(report.to_junit()?)),
    ];
    told.into_iter().collect::<Result<Vec<()>, _>>()?;
    if let Some(why) = report.repair.as_ref().and_then(|repair| repair.failed.as_ref()) {
        return Err(Failure::new(format!("the tables were compared, but not repaired to the end: {why}")));
    }
    report.forget_state()?;
    Ok(match report.verdict {
        Verdict::Equal => Outcome::Good,
        Verdict::Different => Outcome::Different,
        Verdict::NotProven => Outcome::NotProven,
    })
}

async fn compared(arguments: &Arguments, repair: &Repair) -> Result<Report, Failure> {
    let interrupted = interrupted();
    let request = arguments.request()?;
    let display = Display::new();
    let tell = |progress: Progress| display.tell(progress);
    let answered = async {
        match repair.apply || repair.script.is_some() {
            true => compare_and_repair(&request, repair, &tell).await,
            false => compare(&request, &tell).await,
        }
    };
    let result = unless(interrupted, answered).await;
    display.clear();
    let result = result.map_err(|how| {
        let changed = match repair.apply {
            true => "what the repair had committed stays",
            false => "nothing was changed on either server",
        };
        Failure::new(format!("{how}: nothing can be said about the tables"))
            .with_help(format!("run the same command again; {changed}"))
    })?;
    Ok(result.map_err(|error| if arguments.answer.redact { error.redacted() } else { error })?)
}

/// A typing error in a file's name must not come out after hours; nor may one file take the other's place.
fn placeable(paths: &[&Path]) -> Result<(), Failure> {
    let place = |path: &Path| {
        let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Some(directory.canonicalize().ok()?.join(path.file_name()?))
    };
    for (at, path) in paths.iter().enumerate() {
        writable(path).map_err(|e| unwritable(path, &e))?;
        // A device takes any number of them.
        let is_device = path.exists() && !path.is_file();
        if !is_device && paths[..at].iter().any(|other| place(other) == place(path)) {
            return Err(Failure::new(format!("{} is named for two files", path.display()))
                .with_help("name another file for each of --report, --json, --junit and --repair-sql"));
        }
    }
    Ok(())
}

/// Opens a file for writing, and leaves none behind where there was none.
fn writable(path: &Path) -> std::io::Result<()> {
    let is_new = !path.exists();
    // Who reads from a pipe would take this for its end.
    if !is_new && !path.is_file() && !path.is_dir() {
        return Ok(());
    }
    std::fs::OpenOptions::new().append(true).create(true).open(path)?;
    if is_new { std::fs::remove_file(path) } else { Ok(()) }
}

fn unwritable(path: &Path, why: &std::io::Error) -> Failure {
    Failure::new(format!("cannot write to {}: {why}", path.display()))
        .with_help("name a file in a directory that exists and may be written to")
}

/// Writes one of the files that were asked for.
fn write(path: Option<&Path>, text: impl FnOnce() -> Result<String, Failure>) -> Result<(), Failure> {
    let Some(path) = path else { return Ok(()) };
    std::fs::write(path, text()?).map_err(|e| unwritable(path, &e))
}
