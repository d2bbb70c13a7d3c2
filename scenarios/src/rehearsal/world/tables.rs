//! Which of somebody's tables a rehearsal moves.

use converge_chaos::load::{Model, ModelTable};

use crate::rehearsal::RehearsalError;

/// What is moved of a schema, and what is left out and why.
#[derive(Debug)]
pub struct Choice {
    pub tables: Vec<String>,
    pub notes: Vec<String>,
}

/// The tables that the scenario names; or, if it names none, all that can be moved, and `own`, the load's.
pub fn chosen(
    named: &[String],
    model: &Model,
    own: &[String],
    cascades_are_logged: bool,
) -> Result<Choice, RehearsalError> {
    if !named.is_empty() {
        let check = |name: &String| check(name, model, own, cascades_are_logged);
        named.iter().try_for_each(check).map_err(RehearsalError::NotMovable)?;
        return Ok(Choice { tables: named.to_vec(), notes: Vec::new() });
    }
    let (mut tables, mut notes) = (Vec::new(), Vec::new());
    for table in &model.tables {
        match obstacle(table, cascades_are_logged) {
            None => tables.push(table.name.clone()),
            Some(why) => notes.push(format!("table {} is not moved: {why}", table.name)),
        }
    }
    // The load's own alone would say nothing about the schema.
    if tables.is_empty() {
        let why = notes.iter().chain(&model.notes).cloned().collect::<Vec<_>>().join("; ");
        return Err(RehearsalError::NotMovable(format!("none of the schema's tables can be moved: {why}")));
    }
    tables.extend_from_slice(own);
    Ok(Choice { tables, notes })
}

/// Why a table that is named cannot be moved, if it cannot.
fn check(name: &String, model: &Model, own: &[String], cascades_are_logged: bool) -> Result<(), String> {
    // The model has no table whose values cannot be made up; it is there all the same.
    let gets_no_load =
        || model.notes.iter().any(|note| note.starts_with(&format!("table {name} gets no load")));
    match model.tables.iter().find(|table| table.name == *name) {
        Some(table) => match obstacle(table, cascades_are_logged) {
            Some(why) => Err(format!("tables: {name} cannot be moved: {why}")),
            None => Ok(()),
        },
        None if own.contains(name) || gets_no_load() => Ok(()),
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
    let cascades = table.foreign.iter().any(|key| key.cascades) && !cascades_are_logged;
    cascades.then_some("its foreign keys cascade, and the source does not log what they change")
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
        let tables = vec![table("good", true, &[0]), table("heap", true, &[]), table("old", false, &[0])];
        Model { tables, notes: vec!["table odd gets no load: no values".into()] }
    }

    fn choice(named: &[&str], model: &Model) -> Result<Choice, String> {
        let named: Vec<String> = named.iter().map(|&name| name.to_owned()).collect();
        chosen(&named, model, &["ledger".to_owned()], true).map_err(|e| e.to_string())
    }

    #[test]
    fn all_that_can_be_moved_are_and_none_is_an_error() {
        let all = choice(&[], &model()).unwrap();
        assert_eq!((all.tables, all.notes.len()), (vec!["good".to_owned(), "ledger".to_owned()], 2));
        let mut poor = model();
        poor.tables.remove(0);
        let error = choice(&[], &poor).unwrap_err();
        for word in ["none of the schema's tables can be moved", "heap", "old", "odd"] {
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn a_named_table_that_cannot_be_moved_is_refused_with_the_cause() {
        assert_eq!(choice(&["good", "ledger", "odd"], &model()).unwrap().tables.len(), 3);
        for (name, word) in
            [("heap", "usable key"), ("old", "InnoDB"), ("nosuch", "there are good, heap, old, ledger")]
        {
            let error = choice(&["good", name], &model()).unwrap_err();
            assert!(error.contains(word) && error.contains(name), "{error}");
        }
    }
}
