//! Arguments that several commands share: their forms, and what they mean.

use std::path::{Path, PathBuf};
use std::time::Duration;

use converge_chaos::load::Script;
use converge_chaos::server::{ServerBinary, discover, select};
use converge_mysql::names;
use converge_scenarios::rehearsal::DATABASE;
use converge_scenarios::saved::SavedRun;
use converge_scenarios::scenario::Scenario;
use converge_vdiff::TablePair;

use super::Failure;

/// A duration such as `500ms`, `30s`, `2m`, `1h`; a bare number is seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("unknown unit {unit:?}: use ms, s, m or h, as in 30s")),
    };
    let number: f64 = number.parse().map_err(|_| "not a number with a unit, as in 30s".to_owned())?;
    match Duration::try_from_secs_f64(number * factor) {
        // No clock reaches any time that can be written.
        Ok(long) if long > LONGEST => Err("ten years (87600h) at the most".into()),
        other => other.map_err(|e| e.to_string()),
    }
}

/// A duration in which something can happen.
pub fn some_time(text: &str) -> Result<Duration, String> {
    match duration(text) {
        Ok(Duration::ZERO) => Err("nothing happens in no time: give more than 0".into()),
        other => other,
    }
}

/// No option means a longer time.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A number of things of which there must be one.
pub fn at_least_one() -> clap::builder::RangedU64ValueParser<usize> {
    clap::builder::RangedU64ValueParser::new().range(1..)
}

/// What one argument lists.
#[derive(Debug, Clone)]
pub struct Listed<T>(pub Vec<T>);

/// All that the arguments of an option list.
pub fn all<T: Clone>(lists: &[Listed<T>]) -> Vec<T> {
    lists.iter().flat_map(|list| list.0.iter().cloned()).collect()
}

/// Tables, by comma: under the same name on both sides, or as `source=target`.
pub fn tables(text: &str) -> Result<Listed<TablePair>, String> {
    let pairs: Result<_, _> = names::split(text, ',').into_iter().map(str::parse).collect();
    pairs.map(Listed).map_err(|e: converge_vdiff::Error| e.to_string())
}

/// Tables of one side, by comma.
pub fn table_names(text: &str) -> Result<Listed<String>, String> {
    let plain = |name: &str| names::plain(name).ok_or_else(|| format!("{name:?} names no table"));
    names::split(text, ',').into_iter().map(plain).collect::<Result<_, _>>().map(Listed)
}

/// Entries, by comma, with the backquotes that they have.
pub fn entries(text: &str) -> Result<Listed<String>, String> {
    Ok(Listed(names::split(text, ',').into_iter().map(str::to_owned).collect()))
}

/// Tables, as pairs of their names on the source and on the target.
pub fn pairs(lists: &[Listed<TablePair>]) -> Vec<(String, String)> {
    all(lists).into_iter().map(|pair| (pair.source, pair.target)).collect()
}

/// The server that `--server` names, or the first one found.
pub fn chosen_server(wanted: Option<&str>) -> Result<ServerBinary, Failure> {
    if let Some(wanted) = wanted {
        return Ok(select(wanted)?);
    }
    discover()?.into_iter().next().ok_or_else(|| {
        Failure::new("no mysqld or mariadbd was found").with_help(
            "run `make setup`, install MySQL 8.0+ or MariaDB 10.6+, or name one: --server /path/to/mysqld",
        )
    })
}

/// The server that `--server` names, or one like that of a saved run: the same version if it is there, else the same kind.
pub fn server_of(run: &SavedRun, wanted: Option<&str>) -> Result<ServerBinary, Failure> {
    match wanted {
        None if run.external => {
            return Err(Failure::new("the saved run was on two servers that are not the rehearsal's own").with_help(
                "repeat it on servers like them: rehearse --replay with --source-url and --target-url; or name a server with \
                 --server to run its plan on two private ones",
            ));
        }
        Some(_) if run.external => {
            note!("the saved run was on somebody's servers, this one is on private ones")
        }
        _ => {}
    }
    let Some(report) = run.report.as_ref().filter(|_| wanted.is_none()) else {
        return chosen_server(wanted);
    };
    let found = discover()?;
    if let Some(same) = found.iter().find(|binary| binary.info.to_string() == report.source) {
        return Ok(same.clone());
    }
    let kind = |text: &str| text.split(' ').next().unwrap_or_default().to_ascii_lowercase();
    match found.into_iter().find(|binary| kind(&binary.info.to_string()) == kind(&report.source)) {
        Some(like) => {
            note!("the saved run was on {}, this one is on {}", report.source, like.info);
            Ok(like)
        }
        None => Err(Failure::new(format!("the saved run was on {}, which is not found here", report.source))
            .with_help("name a server with --server; another kind may behave in another way")),
    }
}

/// Why a schema's file cannot be used. `more`: what may be given besides.
fn unreadable_schema(file: &Path, why: &std::io::Error, more: &str) -> Failure {
    Failure::new(format!("cannot read the schema {}: {why}", file.display()))
        .with_help(format!("give a file of SQL statements, or one of commerce, classic, types{more}"))
}

/// Refuses a scenario whose schema is in a file that cannot be read or must not be carried out, before anything is begun.
pub fn check_schema(scenario: &Scenario) -> Result<(), Failure> {
    let Some(file) = &scenario.schema else { return Ok(()) };
    Ok(script(file, DATABASE, "")?.require_tables()?)
}

/// The statements of a schema's file that is meant for this database. `more`: what may be given besides a file.
pub fn script(file: &Path, database: &str, more: &str) -> Result<Script, Failure> {
    let sql = std::fs::read(file).map_err(|e| unreadable_schema(file, &e, more))?;
    Ok(Script::parse(file, &sql, database)?)
}

/// This program's own file, which is run again as the mover.
pub fn program() -> Result<PathBuf, Failure> {
    std::env::current_exe().map_err(|e| Failure::new(format!("cannot find this program's own file: {e}")))
}

/// This program as it was called, for commands that are printed.
pub fn program_word() -> String {
    std::env::args().next().unwrap_or_else(|| "converge".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("7"), Ok(Duration::from_secs(7)));
        assert!(duration("87600h").is_ok() && duration("0").is_ok());
        assert!(some_time("0.1s").is_ok() && some_time("0s").is_err() && some_time("x").is_err());
        for bad in ["", "s", "5 parsecs", "-1s", "87601h", "18446744073709551615"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn tables_may_change_their_name() {
        let read = |text: &str| tables(text).map(|list| pairs(&[list]));
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(read("a, b=c"), Ok(vec![pair("a", "a"), pair("b", "c")]));
        assert_eq!(read("`a,b`=`c=``d`"), Ok(vec![pair("a,b", "c=`d")]));
        for bad in ["a=", "", "a,", "=b", "a=b=c", "`a"] {
            assert!(tables(bad).is_err(), "{bad}");
        }
        assert!(table_names("a,`b,c`").is_ok_and(|list| list.0 == ["a", "b,c"]));
        assert!(table_names("a,,b").is_err());
    }
}
