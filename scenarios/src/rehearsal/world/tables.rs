//! Which of somebody's tables a rehearsal moves.

use converge_chaos::load::{Model, ModelTable};

use crate::rehearsal::RehearsalError;

/// What is moved of a schema, and what is left out and why.
#[derive(Debug, Default)]
pub struct Choice {
    pub tables: Vec<String>,
    /// Those of them that no load is sent to.
    pub idle: Vec<String>,
    pub notes: Vec<String>,
}

/// The tables that the scenario names; or, if it names none, all that can be moved, and `own`, the load's.
pub fn chosen(
    named: &[String],
    model: &Model,
    own: &[String],
    cascades_are_logged: bool,
) -> Result<Choice, RehearsalError> {
    let check = |name: &String| check(name, model, own, cascades_are_logged);
    named.iter().try_for_each(check).map_err(RehearsalError::NotMovable)?;
    let mut choice = Choice::default();
    for table in &model.tables {
        let left_out = (!named.is_empty() && !named.contains(&table.name)).then_some(NOT_NAMED);
        match left_out.or_else(|| obstacle(table, cascades_are_logged)) {
            Some(why) => choice.notes.push(format!("table {} is not moved: {why}", table.name)),
            None => choice.take(table),
        }
    }
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
fn check(name: &String, model: &Model, own: &[String], cascades_are_logged: bool) -> Result<(), String> {
    match model.tables.iter().find(|table| table.name == *name) {
        Some(table) => match obstacle(table, cascades_are_logged) {
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

fn obstacle(table: &ModelTable, cascades_are_logged: bool) -> Option<&'static str> {
    if !table.transactional {
        return Some("its engine is not InnoDB, and has no transactions");
    }
    if table.key.is_empty() {
        return Some("it has no usable key (a primary key, or a unique key without NULLs)");
    }
    if table.cascades && !cascades_are_logged {
        return Some("its foreign keys cascade, and the source does not log what they change");
    }
    // Where no rows are there is nothing to be compared.
    (table.is_empty && !table.takes_load()).then_some("it has no rows, and load cannot make any")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> Model {
        let table = |name: &str, transactional, key: &[usize]| ModelTable {
            name: name.into(),
            transactional,
            key: key.to_vec(),
            ..ModelTable::default()
        };
        let idle = |name: &str, is_empty| {
            let no_load = Some("no values".to_owned());
            ModelTable { no_load, is_empty, ..table(name, true, &[0]) }
        };
        let mut tables = vec![table("good", true, &[0]), table("heap", true, &[]), table("old", false, &[0])];
        tables.extend([idle("odd", false), idle("void", true)]);
        Model { tables, notes: Vec::new() }
    }

    fn choice(named: &[&str], model: &Model) -> Result<Choice, String> {
        let named: Vec<String> = named.iter().map(|&name| name.to_owned()).collect();
        chosen(&named, model, &["ledger".to_owned()], true).map_err(|e| e.to_string())
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
        assert_eq!(all.notes.len(), 4);
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
            ("old", "InnoDB"),
            ("void", "no rows"),
            ("nosuch", "there are good, heap, old, odd, void, ledger"),
        ] {
            let error = choice(&["good", name], &model()).unwrap_err();
            assert!(error.contains(word) && error.contains(name), "{error}");
        }
    }
}
