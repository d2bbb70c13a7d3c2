//! The text of a JSON document, as MySQL prints it, taken apart: where its values are, and which of them may be of an SQL
//! type. Pure.

use std::fmt::Write;

use super::json::BadJson;
use super::json_sql::{self, Node};

type Result<T> = std::result::Result<T, BadJson>;

/// A document. Slices are of its text.
#[derive(Debug, Clone, PartialEq)]
pub enum Document<'a> {
    /// A number, string or literal.
    Scalar(&'a str),
    /// An array.
    Array(Vec<Document<'a>>),
    /// Members; the names are JSON strings in quotes.
    Object(Vec<(&'a str, Document<'a>)>),
}

/// Takes a document apart that the server printed.
pub fn parse(text: &[u8]) -> Result<Document<'_>> {
    let text = std::str::from_utf8(text).map_err(|_| bad("is not UTF-8"))?;
    let mut parser = Parser { text, at: 0 };
    let document = parser.value(0)?;
    parser.space();
    if parser.at == text.len() { Ok(document) } else { Err(bad("goes on behind its end")) }
}

fn bad(what: &str) -> BadJson {
    BadJson(format!("the text of a JSON document {what}"))
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> u8 {
        self.text.as_bytes().get(self.at).copied().unwrap_or(0)
    }

    fn space(&mut self) {
        while self.peek().is_ascii_whitespace() {
            self.at += 1;
        }
    }

    fn eat(&mut self, byte: u8) -> bool {
        self.space();
        let there = self.peek() == byte;
        self.at += usize::from(there);
        there
    }

    fn value(&mut self, depth: usize) -> Result<Document<'a>> {
        if depth > super::json::MAX_DEPTH {
            return Err(bad("is nested too deeply"));
        }
        if self.eat(b'[') {
            let mut items = Vec::new();
            while !self.eat(b']') {
                if !items.is_empty() && !self.eat(b',') {
                    return Err(bad("has an array without end"));
                }
                items.push(self.value(depth + 1)?);
            }
            return Ok(Document::Array(items));
        }
        if self.eat(b'{') {
            let mut members = Vec::new();
            while !self.eat(b'}') {
                if !members.is_empty() && !self.eat(b',') {
                    return Err(bad("has an object without end"));
                }
                self.space();
                let name = self.string()?;
                if !self.eat(b':') {
                    return Err(bad("has a member without a value"));
                }
                members.push((name, self.value(depth + 1)?));
            }
            return Ok(Document::Object(members));
        }
        if self.peek() == b'"' {
            return self.string().map(Document::Scalar);
        }
        let start = self.at;
        while matches!(self.peek(), b'+' | b'-' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'E') {
            self.at += 1;
        }
        if start == self.at {
            Err(bad("has no value where one must be"))
        } else {
            Ok(Document::Scalar(&self.text[start..self.at]))
        }
    }

    /// A string with its quotes.
    fn string(&mut self) -> Result<&'a str> {
        let start = self.at;
        if self.peek() != b'"' {
            return Err(bad("has a name that is no string"));
        }
        self.at += 1;
        loop {
            match self.peek() {
                b'"' => break,
                b'\\' => self.at += 2,
                0 => return Err(bad("has a string without end")),
                _ => self.at += 1,
            }
        }
        self.at += 1;
        self.text.get(start..self.at).ok_or_else(|| bad("has a broken string"))
    }
}

/// Whether a scalar's text could be that of a value of an SQL type.
fn may_be_typed(text: &str) -> bool {
    match text.as_bytes() {
        [b'"', b'0'..=b'9' | b'-', ..] => true,
        [b'"', ..] => text.starts_with("\"base64:type"),
        [b'-' | b'0'..=b'9', ..] => true,
        _ => false,
    }
}

impl Document<'_> {
    /// Tells `hear` the path of each value that may be of an SQL type, in order; `path` is the document's own, and the same
    /// again afterwards.
    pub fn each_leaf(&self, path: &mut String, hear: &mut impl FnMut(&str)) {
        let end = path.len();
        match self {
            Self::Scalar(text) if may_be_typed(text) => hear(path),
            Self::Scalar(_) => {}
            Self::Array(items) => {
                for (i, item) in items.iter().enumerate() {
                    let _ = write!(path, "[{i}]");
                    item.each_leaf(path, hear);
                    path.truncate(end);
                }
            }
            Self::Object(members) => {
                for (name, value) in members {
                    path.push('.');
                    path.push_str(name);
                    value.each_leaf(path, hear);
                    path.truncate(end);
                }
            }
        }
    }

    /// Paths of the values that may be of an SQL type, in order.
    pub fn leaves(&self) -> Vec<String> {
        let mut leaves = Vec::new();
        self.each_leaf(&mut "$".to_owned(), &mut |path| leaves.push(path.to_owned()));
        leaves
    }

    /// What makes the document again, given the types of the leaves in their order.
    pub fn node<'t>(&self, types: &mut impl Iterator<Item = &'t str>) -> Result<Node> {
        Ok(match self {
            Self::Scalar(text) if may_be_typed(text) => {
                let kind = types.next().ok_or_else(|| bad("has more values than types"))?;
                typed(text, kind)?.map_or_else(|| Node::Text((*text).to_owned()), Node::Sql)
            }
            Self::Scalar(text) => Node::Text((*text).to_owned()),
            Self::Array(items) => {
                let nodes = items.iter().map(|item| item.node(types)).collect::<Result<Vec<_>>>()?;
                match texts(nodes.iter()) {
                    Some(texts) => Node::Text(format!("[{}]", texts.join(", "))),
                    None => Node::Array(nodes),
                }
            }
            Self::Object(members) => {
                let mut nodes = Vec::with_capacity(members.len());
                for (name, value) in members {
                    nodes.push(((*name).to_owned(), value.node(types)?));
                }
                match texts(nodes.iter().map(|n| &n.1)) {
                    Some(texts) => {
                        let members: Vec<String> = nodes
                            .iter()
                            .zip(texts)
                            .map(|((name, _), text)| format!("{name}: {text}"))
                            .collect();
                        Node::Text(format!("{{{}}}", members.join(", ")))
                    }
                    None => Node::Object(nodes),
                }
            }
        })
    }
}

/// The texts of nodes that are all text.
fn texts<'n>(nodes: impl Iterator<Item = &'n Node>) -> Option<Vec<&'n str>> {
    nodes
        .map(|n| match n {
            Node::Text(text) => Some(text.as_str()),
            _ => None,
        })
        .collect()
}

/// The expression of a scalar that `JSON_TYPE` calls `kind`; `None` for JSON's own types.
fn typed(text: &str, kind: &str) -> Result<Option<String>> {
    let unquoted = text.trim_matches('"');
    Ok(Some(match kind {
        "DECIMAL" => json_sql::decimal(unquoted),
        "DATE" => json_sql::date(unquoted),
        "TIME" => json_sql::time(unquoted),
        "DATETIME" => json_sql::datetime(unquoted),
        "TIMESTAMP" => json_sql::timestamp(unquoted),
        "BLOB" | "BIT" | "OPAQUE" | "GEOMETRY" => {
            let unknown = || bad(&format!("has a value of the type {kind}, which cannot be made again"));
            let (number, data) =
                unquoted.strip_prefix("base64:type").and_then(|r| r.split_once(':')).ok_or_else(unknown)?;
            let data = base64(data).ok_or_else(unknown)?;
            json_sql::binary(number.parse().map_err(|_| unknown())?, &data).ok_or_else(unknown)?
        }
        _ => return Ok(None),
    }))
}

fn base64(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut held) = (0u32, 0);
    // MySQL breaks long ones into lines; in a document's text the breaks are escaped.
    for b in text.replace("\\n", "").replace('\n', "").trim_end_matches('=').bytes() {
        let digit = match b {
            b'A'..=b'Z' => b - b'A',
            b'a'..=b'z' => b - b'a' + 26,
            b'0'..=b'9' => b - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(digit);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn leaves_are_found_by_path_and_get_their_types() {
        let text =
            br#"{"a\"b": [1.10, "x", true], "d": {"e": "2024-01-01"}, "f": [], "g": "base64:type15:AP8="}"#;
        let document = parse(text).unwrap();
        assert_eq!(document.leaves(), ["$.\"a\\\"b\"[0]", "$.\"d\".\"e\"", "$.\"g\""]);
        let node = document.node(&mut ["DECIMAL", "STRING", "BLOB"].into_iter()).unwrap();
        let Node::Object(members) = node else { panic!("{node:?}") };
        assert_eq!(
            members[0].1,
            Node::Array(vec![
                Node::Sql(json_sql::decimal("1.10")),
                Node::Text("\"x\"".into()),
                Node::Text("true".into())
            ])
        );
        assert_eq!(members[1].1, Node::Text("{\"e\": \"2024-01-01\"}".into()));
        assert_eq!(members[3].1, Node::Sql("x'00ff'".into()));
    }

    #[test]
    fn what_no_expression_makes_is_an_error() {
        assert!(typed("\"base64:type255:AA==\"", "GEOMETRY").is_err());
    }

    fn documents() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just("null".to_owned()),
            any::<i64>().prop_map(|n| n.to_string()),
            "[0-9]{1,9}\\.[0-9]{1,9}",
            any::<String>().prop_map(|s| {
                let mut out = String::new();
                super::super::json::push_string(&mut out, s.as_bytes()).unwrap();
                out
            }),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(|v| format!("[{}]", v.join(", "))),
                prop::collection::vec(("[a-z\\\\]{0,0}[a-z]{0,4}", inner), 0..5).prop_map(|v| format!(
                    "{{{}}}",
                    v.iter().map(|(k, v)| format!("\"{k}\": {v}")).collect::<Vec<_>>().join(", ")
                )),
            ]
        })
    }

    proptest! {
        #[test]
        fn documents_without_sql_types_are_made_of_their_text(text in documents()) {
            let document = parse(text.as_bytes()).unwrap();
            let node = document.node(&mut std::iter::repeat("STRING")).unwrap();
            prop_assert_eq!(node, Node::Text(text));
        }

        #[test]
        fn any_text_ends_in_a_document_or_an_error(text in "[\\[\\]{}\",:0-9a\\\\ ]{0,40}") {
            let _ = parse(text.as_bytes());
        }

        #[test]
        fn base64_reads_back(bytes: Vec<u8>) {
            prop_assert_eq!(base64(&super::super::json::base64(&bytes)), Some(bytes));
        }
    }
}
