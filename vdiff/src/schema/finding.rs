//! What a comparison of two schemas says: findings, each with how much it matters.

use serde::{Deserialize, Serialize};

/// How much a difference between two schemas matters. Ordered from harmless to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing behaves differently.
    Note,
    /// Equal rows, but the target will behave differently from now on. It does not change the verdict.
    Warning,
    /// The tables cannot be called equal: the verdict is `different` or `not_proven`.
    Error,
}

impl Severity {
    /// As in the JSON form.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One difference between the schemas of a table and its counterpart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemaFinding {
    /// How much it matters.
    pub severity: Severity,
    /// What differs: `column price`, `index by_name`, `trigger t`, `table`.
    pub object: String,
    /// Which property of it: `type`, `default`, `presence`, ….
    pub property: String,
    /// On the source; `None` where there is nothing.
    pub source: Option<String>,
    /// On the target; `None` where there is nothing.
    pub target: Option<String>,
    /// The finding and what follows from it, as a sentence.
    pub message: String,
}

impl SchemaFinding {
    /// A property that both sides have, with different values.
    pub fn differs(severity: Severity, object: &str, property: &str, sides: [&str; 2], so: &str) -> Self {
        let shown = |text: &str| if text.is_empty() { "(none)".to_owned() } else { text.to_owned() };
        let [a, b] = sides.map(shown);
        let so = if so.is_empty() { String::new() } else { format!(": {so}") };
        Self {
            severity,
            object: object.into(),
            property: property.into(),
            source: Some(sides[0].to_owned()).filter(|t| !t.is_empty()),
            target: Some(sides[1].to_owned()).filter(|t| !t.is_empty()),
            message: format!("{object}: {property}: {a} on the source, {b} on the target{so}"),
        }
    }

    /// Something that only one side (0: the source) has.
    pub fn only_on(side: usize, severity: Severity, object: &str, what: &str, so: &str) -> Self {
        let so = if so.is_empty() { String::new() } else { format!(": {so}") };
        let (here, there) = if side == 0 { ("source", "target") } else { ("target", "source") };
        let mut sides = [None, None];
        sides[side] = Some(what.to_owned());
        let [source, target] = sides;
        Self {
            severity,
            object: object.into(),
            property: "presence".into(),
            source,
            target,
            message: format!("{object} ({what}) exists on the {here} only, not on the {there}{so}"),
        }
    }
}
