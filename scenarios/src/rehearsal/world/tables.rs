//! Which of somebody's tables a rehearsal moves.

use std::collections::BTreeMap;

use converge_chaos::load::{Model, ModelTable};
use converge_mover::copy::Strategy;
use converge_mover::preflight::{self, Accepted, Request, Weight};
use converge_mysql::{Address, quote};

use crate::rehearsal::RehearsalError;

/// What is moved of a schema, and what is left out and why.
#[derive(Debug, Default)]
pub struct Choice {
    pub tables: Vec<String>,
    /// Those of them that no load is sent to.
    pub idle: Vec<String>,
    pub notes: Vec<String>,
}

/// What the mover says of single tables, by their names.
#[derive(Debug, Default)]
pub struct Said {
    /// Why a table is not moved.
    pub against: BTreeMap<String, String>,
    /// What of a table is not moved, or is not as it was.
    pub warnings: Vec<(String, String)>,
}

/// Asks the mover's own preflight about each table of a database that has the same name on both servers.
pub async fn asked(
    source: &Address,
    target: &Address,
    strategy: Strategy,
    model: &Model,
) -> Result<Said, RehearsalError> {
    let mut said = Said::default();
    if model.tables.is_empty() {
        return Ok(said);
    }
    let request = request(source, target, strategy, model.tables.iter().map(|table| &table.name));
    for finding in preflight::check(&request).await?.findings {
        let of = |(name, _): &&(String, String)| {
            finding.table.as_ref() == Some(&quote::qualified(&request.source.database, name))
        };
        let Some((name, _)) = request.tables.iter().find(of) else { continue };
        match finding.weight {
            Weight::Pass => {}
            Weight::Warn => said.warnings.push((name.clone(), finding.what)),
            Weight::Refuse => {
                let why = said.against.entry(name.clone()).or_default();
                *why += if why.is_empty() { "" } else { "; " };
                *why += &finding.what;
            }
        }
    }
    Ok(said)
}

/// Whether the mover would begin to move these tables; if not, all that forbids it.
pub async fn allowed(
    source: &Address,
    target: &Address,
    strategy: Strategy,
    tables: &[String],
) -> Result<(), RehearsalError> {
    let report = preflight::check(&request(source, target, strategy, tables.iter())).await?;
    // It is the mover itself that warns.
    if report.verdict == Weight::Refuse { Ok(report.judge()?) } else { Ok(()) }
}

fn request<'a>(
    source: &Address,
    target: &Address,
    strategy: Strategy,
    tables: impl Iterator<Item = &'a String>,
) -> Request {
    Request {
        source: source.clone(),
        target: target.clone(),
        tables: tables.map(|name| (name.clone(), name.clone())).collect(),
        strategy,
        defer_secondary_keys: false,
        accepted: Accepted::default(),
    }
}

/// The tables that the scenario names; or, if it names none, all that can be moved, and `own`, the load's.
pub fn chosen(
    named: &[String],
    model: &Model,
    own: &[String],
    said: &Said,
) -> Result<Choice, RehearsalError> {
    let check = |name: &String| check(name, model, own, said);
    named.iter().try_for_each(check).map_err(RehearsalError::NotMovable)?;
    let mut choice = Choice::default();
    for table in &model.tables {
        let left_out = (!named.is_empty() && !named.contains(&table.name)).then_some(NOT_NAMED);
        match left_out.or_else(|| obstacle(table, said)) {
            Some(why) => choice.notes.push(format!("table {} is not moved: {why}", table.name)),
            None => choice.take(table),
        }
    }
    let moved = |table: &&(String, String)| choice.tables.contains(&table.0);
    let warnings = said.warnings.iter().filter(moved).map(|(name, what)| format!("table {name}: {what}"));
    let warnings: Vec<String> = warnings.collect();
    choice.notes.extend(warnings);
    // The load's own alone would say nothing about the schema.
    if choice.tables.is_empty() && named.is_empty() {
        let why = choice.notes.iter().chain(&model.notes).cloned().collect::<Vec<_>>().join("; ");
        return Err(RehearsalError::NotMovable(format!("none of the schema's tables can be moved: {why}")));
    }
    for name in own {
        match named.is_empty() || named.contains(name) {
            true => choice.tables.push(name.clone()),
            false => choice.notes.push(format!("table {name} is not moved: {NOT_NAMED}")),
        }
    }
    Ok(choice)
}

/// Why a table stays that could be moved.
const NOT_NAMED: &str = "the scenario's `tables` do not name it";

impl Choice {
    fn take(&mut self, table: &ModelTable) {
        self.tables.push(table.name.clone());
        if !table.takes_load() {
            let name = &table.name;
            self.idle.push(name.clone());
            self.notes.push(format!("table {name}: only its copy is compared, for nothing is written to it"));
        }
    }
}

/// Why a table that is named cannot be moved, if it cannot.
fn check(name: &String, model: &Model, own: &[String], said: &Said) -> Result<(), String> {
    match model.tables.iter().find(|table| table.name == *name) {
        Some(table) => match obstacle(table, said) {
            Some(why) => Err(format!("tables: {name} cannot be moved: {why}")),
            None => Ok(()),
        },
        None if own.contains(name) => Ok(()),
        None => {
            let there = model.tables.iter().map(|table| &table.name).chain(own);
            let there = there.map(String::as_str).collect::<Vec<_>>().join(", ");
            Err(format!("tables: there is no table {name}; there are {there}"))
        }
    }
}

fn obstacle<'a>(table: &ModelTable, said: &'a Said) -> Option<&'a str> {
    // Where no rows are there is nothing to be compared.
    let nothing =
        (table.is_empty && !table.takes_load()).then_some("it has no rows, and load cannot make any");
    said.against.get(&table.name).map(String::as_str).or(nothing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> Model {
        let table = |name: &str| ModelTable { name: name.into(), ..ModelTable::default() };
        let idle = |name: &str, is_empty| {
            let no_load = Some("no values".to_owned());
            ModelTable { no_load, is_empty, ..table(name) }
        };
        let mut tables = vec![table("good"), table("heap"), table("old")];
        tables.extend([idle("odd", false), idle("void", true)]);
        Model { tables, notes: Vec::new() }
    }

    fn choice(named: &[&str], model: &Model) -> Result<Choice, String> {
        let named: Vec<String> = named.iter().map(|&name| name.to_owned()).collect();
        let against = [("heap", "without a usable key"), ("old", "MyISAM"), ("other", "not here")];
        let against = against.map(|(name, why)| (name.to_owned(), why.to_owned())).into();
        let warnings = ["good", "heap"].map(|name| (name.to_owned(), "has triggers".to_owned())).into();
        let said = Said { against, warnings };
        chosen(&named, model, &["ledger".to_owned()], &said).map_err(|e| e.to_string())
    }

    #[test]
    fn all_that_can_be_moved_are_and_the_others_are_told_and_none_is_an_error() {
        let all = choice(&[], &model()).unwrap();
        assert_eq!(
            (all.tables, all.idle),
            (vec!["good".into(), "odd".into(), "ledger".into()], vec!["odd".to_owned()])
        );
        for (name, said) in all.notes.iter().zip(["heap", "old", "odd", "void"]) {
            assert!(name.starts_with(&format!("table {said}")), "{name}");
        }
        assert_eq!(all.notes[4..], ["table good: has triggers"]);
        let mut poor = model();
        poor.tables.retain(|table| !["good", "odd"].contains(&table.name.as_str()));
        let error = choice(&[], &poor).unwrap_err();
        for word in ["none of the schema's tables can be moved", "heap", "old", "void"] {
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn a_named_table_that_cannot_be_moved_is_refused_with_the_cause() {
        let named = choice(&["odd"], &model()).unwrap();
        assert_eq!((&named.tables, &named.idle), (&vec!["odd".to_owned()], &named.tables));
        for name in ["good", "heap", "old", "void", "ledger"] {
            let told = |note: &String| note.starts_with(&format!("table {name} is not moved: "));
            assert!(named.notes.iter().any(told), "{name}: {:?}", named.notes);
        }
        for (name, word) in [
            ("heap", "usable key"),
            ("old", "MyISAM"),
            ("void", "no rows"),
            ("nosuch", "there are good, heap, old, odd, void, ledger"),
        ] {
            let error = choice(&["good", name], &model()).unwrap_err();
            assert!(error.contains(word) && error.contains(name), "{error}");
        }
    }
}
