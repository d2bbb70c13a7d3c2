//! How a server is asked, as rows are read, for values of SQL types inside the documents of a column: where documents look
//! alike by the paths of their values, which costs it little, and else by having it look through each.
//!
//! Which paths there are is learned from documents, and only a hint: one with a value elsewhere is never taken to be
//! without such types, but left open, to be asked about by itself.

use converge_mysql::quote;
use mysql_async::Value as ServerValue;

use super::json::BadJson;
use super::json_types::SQL_TYPES;
use super::{json_text, json_types};
use crate::schema::{Column, Table};
use crate::value::Value;

/// What `JSON_TYPE` calls those of JSON's own values that may look like one of an SQL type.
const OWN_TYPES: [&str; 4] = ["STRING", "INTEGER", "DOUBLE", "UNSIGNED INTEGER"];
/// Bits of an answer that say the type at one path: its place from 1 in [`types`], 0 if there is no such value.
const BITS: usize = 4;
/// Paths that one answer has room for.
const MOST_PATHS: usize = 15;
/// Bytes of a document that is taken apart here.
const LONGEST: usize = 64 << 10;
/// Documents of a chunk that may be asked about by themselves.
const FEW: usize = 10;

/// What is asked about each document of a column.
#[derive(Debug, Clone, PartialEq)]
pub enum Question {
    /// Whether it has any value of an SQL type.
    Any,
    /// The types of its values at these paths.
    Paths(Vec<String>),
}

/// What an answer says of a document.
#[derive(Debug, PartialEq)]
pub enum Answer {
    /// Its text says all.
    Plain,
    /// It has values of SQL types, and is this.
    Typed(Value),
    /// It has to be asked about by itself.
    Open,
}

/// What a value may be that looks like one of an SQL type: JSON's own types first.
fn types() -> [&'static str; OWN_TYPES.len() + SQL_TYPES.len()] {
    let mut types = [""; OWN_TYPES.len() + SQL_TYPES.len()];
    types[..OWN_TYPES.len()].copy_from_slice(&OWN_TYPES);
    types[OWN_TYPES.len()..].copy_from_slice(&SQL_TYPES);
    types
}

/// The question that suits all documents, for each column that has some.
pub fn any(table: &Table) -> Vec<Question> {
    json_types::columns(table).map(|_| Question::Any).collect()
}

/// Questions for documents like these: of each column some texts.
pub fn learned(columns: Vec<Vec<Vec<u8>>>) -> Vec<Question> {
    let question =
        |texts: Vec<Vec<u8>>| Question::Paths(Vec::new()).extended(texts.iter().map(Vec::as_slice));
    columns.into_iter().map(question).collect()
}

/// Asks otherwise where too many documents of a chunk are open: `open` has their rows' indexes and columns. Returns whether
/// any question is another one now, so that the chunk is to be read again.
pub fn learn(
    questions: &mut [Question],
    table: &Table,
    rows: &[Vec<Value>],
    open: &[(usize, usize)],
) -> bool {
    let mut learned = false;
    for (question, column) in questions.iter_mut().zip(json_types::columns(table)) {
        let rows_open = || open.iter().filter(|(_, c)| *c == column).map(|(row, _)| &rows[*row][column]);
        if *question != Question::Any && rows_open().count() > FEW {
            let texts = rows_open().filter_map(|value| match value {
                Value::Json(text) => Some(text.as_slice()),
                _ => None,
            });
            *question = question.extended(texts);
            learned = true;
        }
    }
    learned
}

impl Question {
    /// The expression that asks it.
    pub fn sql(&self, column: &Column) -> String {
        let Self::Paths(paths) = self else { return json_types::flag(column) };
        let name = quote::ident(&column.name);
        let types = json_types::listed(&types());
        let one = |(i, path): (usize, &String)| {
            let mut literal = Vec::new();
            quote::push_bytes(&mut literal, path.as_bytes());
            let path = String::from_utf8_lossy(&literal);
            format!("FIELD(JSON_TYPE(JSON_EXTRACT({name},_utf8mb4{path})),{types})<<{}", i * BITS)
        };
        let all: Vec<String> = paths.iter().enumerate().map(one).collect();
        if all.is_empty() { "0".to_owned() } else { format!("({})", all.join("|")) }
    }

    /// What the answer says of the document with this text.
    pub fn answer(&self, text: &[u8], answer: &ServerValue) -> Result<Answer, BadJson> {
        let bits = match answer {
            ServerValue::Int(v) => *v as u64,
            ServerValue::UInt(v) => *v,
            _ => 0,
        };
        let Self::Paths(paths) = self else {
            return Ok(if bits == 1 { Answer::Open } else { Answer::Plain });
        };
        if text.len() > LONGEST {
            return Ok(Answer::Open);
        }
        let (document, types) = (json_text::parse(text)?, types());
        let (mut kinds, mut open) = (Vec::new(), false);
        document.each_leaf(&mut "$".to_owned(), &mut |path| {
            let place = paths.iter().position(|known| known == path);
            let number = place.map_or(0, |i| (bits >> (i * BITS)) as usize & ((1 << BITS) - 1));
            match number.checked_sub(1).filter(|&i| i < types.len()) {
                Some(kind) => kinds.push(kind),
                None => open = true,
            }
        });
        if open {
            return Ok(Answer::Open);
        }
        if kinds.iter().all(|&kind| kind < OWN_TYPES.len()) {
            return Ok(Answer::Plain);
        }
        let value = json_types::with_types(text, &document, kinds.iter().map(|&kind| types[kind]))?;
        Ok(Answer::Typed(value))
    }

    /// The question for documents like those that this one is for, and like these.
    fn extended<'t>(&self, texts: impl Iterator<Item = &'t [u8]>) -> Self {
        let Self::Paths(known) = self else { return Self::Any };
        let mut paths = known.clone();
        for text in texts {
            let document = (text.len() <= LONGEST).then(|| json_text::parse(text).ok()).flatten();
            let Some(document) = document else { return Self::Any };
            document.each_leaf(&mut "$".to_owned(), &mut |path| {
                // One more than there is room for says that there are too many.
                if paths.len() <= MOST_PATHS && !paths.iter().any(|known| known == path) {
                    paths.push(path.to_owned());
                }
            });
        }
        // Documents were open for another reason if they have no new path.
        let grown = known.is_empty() || paths.len() > known.len();
        if grown && paths.len() <= MOST_PATHS { Self::Paths(paths) } else { Self::Any }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::schema::Kind;

    fn paths(texts: &[&str]) -> Question {
        learned(vec![texts.iter().map(|t| t.as_bytes().to_vec()).collect()]).remove(0)
    }

    /// The answer that names these types at the question's paths.
    fn named(names: &[&str]) -> ServerValue {
        let number = |name: &str| types().iter().position(|t| *t == name).map_or(0, |i| i as u64 + 1);
        ServerValue::UInt(names.iter().enumerate().map(|(i, name)| number(name) << (i * BITS)).sum())
    }

    fn answer(question: &Question, text: &str, names: &[&str]) -> Answer {
        question.answer(text.as_bytes(), &named(names)).unwrap()
    }

    #[test]
    fn documents_that_look_alike_are_asked_about_by_path() {
        let question = paths(&[r#"{"n": 1, "s": "x"}"#, r#"{"n": 2, "t": ["a", "2020-01-01"]}"#]);
        assert_eq!(question, Question::Paths(vec!["$.\"n\"".into(), "$.\"t\"[1]".into()]));
        let own = "'STRING','INTEGER','DOUBLE','UNSIGNED INTEGER'";
        let all =
            format!("{own},'DECIMAL','DATE','TIME','DATETIME','TIMESTAMP','BLOB','BIT','GEOMETRY','OPAQUE'");
        assert_eq!(
            question.sql(&Column::for_tests("a", Kind::Json)),
            format!(
                "(FIELD(JSON_TYPE(JSON_EXTRACT(`a`,_utf8mb4'$.\"n\"')),{all})<<0|\
                 FIELD(JSON_TYPE(JSON_EXTRACT(`a`,_utf8mb4'$.\"t\"[1]')),{all})<<4)"
            )
        );
        assert_eq!(paths(&[r#""x""#, "null"]).sql(&Column::for_tests("a", Kind::Json)), "0");
    }

    #[test]
    fn an_answer_says_plain_typed_or_open() {
        let question = paths(&[r#"{"n": 1, "t": ["a", "2020-01-01"]}"#]);
        let text = r#"{"n": 1.50, "t": ["a", "2020-01-01"]}"#;
        assert_eq!(answer(&question, text, &["DOUBLE", "STRING"]), Answer::Plain);
        let Answer::Typed(Value::JsonSql(sql)) = answer(&question, text, &["DECIMAL", "STRING"]) else {
            panic!("not typed")
        };
        assert!(String::from_utf8(sql).unwrap().starts_with("JSON_OBJECT("));
        assert_eq!(answer(&question, r#"{"n": "x", "t": []}"#, &["STRING"]), Answer::Plain);
        // A value elsewhere, one that the server does not find, and one of a type that is not known.
        for (text, names) in [
            (r#"{"n": 1, "u": 1}"#, ["INTEGER", ""]),
            (r#"{"n": 1, "t": ["a", ["2020-01-01"]]}"#, ["INTEGER", "ARRAY"]),
            (text, ["DOUBLE", ""]),
            (text, ["", "STRING"]),
        ] {
            assert_eq!(answer(&question, text, &names), Answer::Open, "{text}");
        }
        let long = format!("\"{}\"", "x".repeat(LONGEST));
        assert_eq!(answer(&question, &long, &[]), Answer::Open);
    }

    #[test]
    fn a_document_that_is_looked_through_is_open_if_anything_is_found() {
        assert_eq!(Question::Any.answer(b"1.5", &ServerValue::Int(1)).unwrap(), Answer::Open);
        for no in [ServerValue::Int(0), ServerValue::NULL] {
            assert_eq!(Question::Any.answer(b"1.5", &no).unwrap(), Answer::Plain);
        }
    }

    #[test]
    fn too_many_paths_are_not_asked_about() {
        let fields = |n: usize| {
            let members: Vec<String> = (0..n).map(|i| format!("\"m{i}\": {i}")).collect();
            format!("{{{}}}", members.join(", "))
        };
        assert!(matches!(paths(&[&fields(MOST_PATHS)]), Question::Paths(p) if p.len() == MOST_PATHS));
        assert_eq!(paths(&[&fields(MOST_PATHS + 1)]), Question::Any);
        let long = format!("\"{}\"", "x".repeat(LONGEST));
        assert_eq!(paths(&["1", &long]), Question::Any);
    }

    #[test]
    fn another_question_is_asked_once_many_are_open() {
        let columns =
            vec![Column::for_tests("i", Kind::Int { unsigned: false }), Column::for_tests("j", Kind::Json)];
        let table = Table::for_tests(columns, vec![0]);
        let rows_of = |text: &str| vec![vec![Value::Int(1), Value::Json(text.into())]; FEW + 1];
        let all: Vec<(usize, usize)> = (0..=FEW).map(|row| (row, 1)).collect();
        let mut questions = vec![paths(&["{\"a\": 1}"])];
        let rows = rows_of("{\"b\": 1}");
        assert!(!learn(&mut questions, &table, &rows, &all[1..]));
        assert!(learn(&mut questions, &table, &rows, &all));
        assert_eq!(questions, [paths(&["{\"a\": 1}", "{\"b\": 1}"])]);
        // Open for another reason: no question by path would help.
        assert!(learn(&mut questions, &table, &rows, &all));
        assert_eq!(questions, [Question::Any]);
        assert!(!learn(&mut questions, &table, &rows, &all));
    }

    proptest! {
        #[test]
        fn no_document_is_plain_but_by_an_answer_to_each_of_its_values(
            known in prop::collection::vec("\\{\"[ab]\": (1|\\[1, \"2\"\\]|\"x\"|\\{\"c\": 1\\.5\\})\\}", 0..4),
            text in "\\{\"[ab]\": (1|\\[1, \"2\"\\]|\\[1\\]|\"x\"|\\{\"c\": 1\\.5\\})\\}",
            bits: u64,
        ) {
            let question = paths(&known.iter().map(String::as_str).collect::<Vec<_>>());
            let Question::Paths(paths) = &question else { return Ok(()) };
            let answer = question.answer(text.as_bytes(), &ServerValue::UInt(bits));
            let leaves = json_text::parse(text.as_bytes()).unwrap().leaves();
            let kinds: Vec<u64> = (leaves.iter())
                .map(|leaf| paths.iter().position(|p| p == leaf).map_or(0, |i| bits >> (i * BITS) & 15))
                .collect();
            let own = kinds.iter().all(|k| (1..=OWN_TYPES.len() as u64).contains(k));
            prop_assert_eq!(matches!(answer, Ok(Answer::Plain)), own);
        }
    }
}
