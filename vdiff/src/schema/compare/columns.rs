//! Two columns of one name: type, what may be stored, defaults, collation, what computes them.

use converge_mysql::Flavor;

use super::super::spelling::{self, DefaultValue, Likeness, alike};
use super::super::{Column, SchemaFinding, Severity, Table};
use crate::form::kind::integer_range;

/// A column on both sides, seen with its table (whose checks say what MariaDB's JSON is) and family.
struct Pair<'a> {
    columns: [&'a Column; 2],
    flavors: [Flavor; 2],
    object: String,
    findings: Vec<SchemaFinding>,
}

/// What differs about a column that both sides have.
pub fn column(tables: [&Table; 2], columns: [&Column; 2], flavors: [Flavor; 2]) -> Vec<SchemaFinding> {
    let object = format!("column {}", columns[0].name);
    let mut pair = Pair { columns, flavors, object, findings: Vec::new() };
    if !is_json_alias(tables, columns) {
        pair.types();
        pair.texts();
    }
    pair.nulls();
    pair.defaults();
    pair.generated();
    pair.attributes();
    pair.findings
}

/// MariaDB's JSON is text with a check: against MySQL's JSON, that is the vendors' spelling.
fn is_json_alias(tables: [&Table; 2], columns: [&Column; 2]) -> bool {
    let is_json = columns.map(|c| c.data_type == "json");
    let checked = |side: usize| {
        let wanted = format!("json_valid(`{}`)", columns[side].name.to_lowercase());
        columns[side].data_type == "longtext"
            && tables[side].details.checks.iter().any(|c| c.to_lowercase() == wanted)
    };
    (is_json[0] && checked(1)) || (is_json[1] && checked(0))
}

impl Pair<'_> {
    fn differs(&mut self, severity: Severity, property: &str, sides: [&str; 2], so: &str) {
        if sides[0] != sides[1] {
            self.findings.push(SchemaFinding::differs(severity, &self.object, property, sides, so));
        }
    }

    fn types(&mut self) {
        let [a, b] = self.columns.map(declared_type);
        let (severity, so) = if holds(self.columns[0], self.columns[1]) {
            (Severity::Note, "the target holds every value of the source's type")
        } else {
            (Severity::Warning, "the target cannot hold, as it is, every value of the source's type")
        };
        self.differs(severity, "type", [&a, &b], so);
    }

    fn texts(&mut self) {
        let [a, b] = self.columns.map(|c| spelling::charset(c.charset.as_deref()));
        if a != b && !a.is_empty() && !b.is_empty() {
            let wider = matches!(b.as_str(), "utf8mb4" | "utf16" | "utf16le" | "utf32")
                || (b == "utf8mb3" && a == "ascii");
            let (severity, so) = match wider {
                true => (Severity::Note, "the target's holds every character"),
                false => (Severity::Warning, "characters may be missing there"),
            };
            self.differs(severity, "character set", [&a, &b], so);
        }
        let [c, d] = self.columns.map(|c| spelling::charset(c.collation.as_deref()));
        if !c.is_empty() && !d.is_empty() {
            // `latin1_bin` and `utf8mb4_bin` compare alike; the set itself was a finding already.
            let rest =
                |collation: &str, set: &str| collation.strip_prefix(set).unwrap_or(collation).to_owned();
            if a == b || rest(&c, &a) != rest(&d, &b) {
                let so = "the target sorts, and compares in WHERE and in keys, by other rules";
                self.differs(Severity::Warning, "collation", [&c, &d], so);
            }
        }
    }

    fn nulls(&mut self) {
        let [a, b] = self.columns.map(|c| if c.nullable { "NULL" } else { "NOT NULL" });
        let so = match self.columns[1].nullable {
            true => "the target takes NULL where the source refuses it",
            false => "the target refuses NULL where the source takes it",
        };
        self.differs(Severity::Warning, "nullability", [a, b], so);
    }

    fn defaults(&mut self) {
        let [a, b] = self.columns;
        let values = [spelling::default(a, self.flavors[0]), spelling::default(b, self.flavors[1])];
        if values[0] == values[1] {
            return;
        }
        let shown = |column: &Column, value: &DefaultValue| match value {
            DefaultValue::None => String::new(),
            DefaultValue::Value(bytes) => format!("'{}'", String::from_utf8_lossy(bytes)),
            DefaultValue::Expression(_) => column.default.clone().unwrap_or_default(),
        };
        let texts = [shown(a, &values[0]), shown(b, &values[1])];
        if let [DefaultValue::Expression(_), DefaultValue::Expression(_)] = values
            && alike([&texts[0], &texts[1]], self.flavors) == Likeness::Parentheses
        {
            return;
        }
        let so = "rows inserted without this column will differ";
        self.differs(Severity::Warning, "default", [&texts[0], &texts[1]], so);
    }

    fn generated(&mut self) {
        let kinds = self.columns.map(crate::form::kind::generated);
        let so = "the target does not compute it the same way";
        self.differs(Severity::Warning, "generated", [&kinds[0], &kinds[1]], so);
        let [a, b] = self.columns.map(|c| c.generated.clone().unwrap_or_default());
        match alike([&a, &b], self.flavors) {
            Likeness::Same => {}
            // The families print other parentheses for one and the same expression.
            Likeness::Parentheses => {
                let so = "they differ in parentheses at most, which the two families print differently";
                self.differs(Severity::Note, "expression", [&a, &b], so);
            }
            Likeness::Different => {
                let so = "the same values will give other results on the target";
                self.differs(Severity::Warning, "expression", [&a, &b], so);
            }
        }
    }

    fn attributes(&mut self) {
        let has = |c: &Column, what: &str| {
            if c.extra.to_lowercase().contains(what) { "yes" } else { "no" }
        };
        let [a, b] = self.columns;
        let counted = "auto_increment";
        let so = "the target does not number new rows as the source does";
        self.differs(Severity::Warning, counted, [has(a, counted), has(b, counted)], so);
        let so = "SELECT * shows it on one side only";
        self.differs(Severity::Warning, "invisible", [has(a, "invisible"), has(b, "invisible")], so);
        let updates = [spelling::on_update(a), spelling::on_update(b)];
        let so = "an UPDATE that does not name it leaves another value";
        self.differs(Severity::Warning, "on update", [&updates[0], &updates[1]], so);
        let comments = [a.comment.clone(), b.comment.clone()];
        self.differs(Severity::Note, "comment", [&comments[0], &comments[1]], "");
    }
}

/// The type as declared, without what changes no values: display widths, spellings of character sets.
fn declared_type(column: &Column) -> String {
    crate::form::kind::declared_type(column)
}

/// The text between the parentheses of a declared type, as a number.
fn declared_length(column: &Column) -> Option<u64> {
    let (_, rest) = column.column_type.split_once('(')?;
    rest.split(')').next()?.parse().ok()
}

/// Whether `to` holds every value of `from`, unchanged.
fn holds(from: &Column, to: &Column) -> bool {
    let (a, b) = (from.data_type.as_str(), to.data_type.as_str());
    if let (Some((low, high)), Some((least, most))) = (integer_range(from), integer_range(to)) {
        return least <= low && high <= most;
    }
    if let Some((low, high)) = integer_range(from) {
        let digits = low.unsigned_abs().max(high.unsigned_abs()).to_string().len() as u32;
        let signed = low >= 0 || !to.column_type.contains("unsigned");
        return b == "decimal" && signed && to.precision.saturating_sub(to.scale) >= digits;
    }
    let in_row = |t: &str| t == "char" || t == "varchar";
    match (a, b) {
        ("decimal", "decimal") => {
            let signed = from.column_type.contains("unsigned") || !to.column_type.contains("unsigned");
            let whole = |c: &Column| c.precision.saturating_sub(c.scale);
            signed && to.scale >= from.scale && whole(to) >= whole(from)
        }
        ("float", "float" | "double") | ("double", "double") => {
            let signed = from.column_type.contains("unsigned") || !to.column_type.contains("unsigned");
            // One with a number of digits rounds to it.
            signed && (!to.column_type.contains('(') || to.column_type == from.column_type)
        }
        ("date", "date" | "datetime") => true,
        ("datetime", "datetime") | ("time", "time") | ("timestamp", "timestamp" | "datetime") => {
            to.fraction >= from.fraction
        }
        // CHAR drops spaces at the end.
        ("varchar", "char") => false,
        (a, b) if in_row(a) && in_row(b) => declared_length(to) >= declared_length(from),
        (a, b) if (in_row(a) || a.ends_with("text")) && b.ends_with("text") => to.octets >= from.octets,
        ("tinyblob" | "blob" | "mediumblob" | "longblob" | "varbinary", b)
            if b.ends_with("blob") || b == "varbinary" =>
        {
            to.octets >= from.octets
        }
        ("bit", "bit") => declared_length(to) >= declared_length(from),
        ("enum", "enum") | ("set", "set") => {
            let there = to.members();
            from.members().iter().all(|m| there.contains(m))
        }
        ("json", b) => b == "longtext",
        ("year", "year") => true,
        _ => declared_type(from) == declared_type(to),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(data_type: &str, column_type: &str) -> Column {
        Column { data_type: data_type.into(), column_type: column_type.into(), ..Column::default() }
    }

    #[test]
    fn a_type_holds_another_only_with_every_value() {
        for (from, to, wanted) in [
            (of("int", "int"), of("bigint", "bigint"), true),
            (of("int", "int unsigned"), of("bigint", "bigint"), true),
            (of("int", "int"), of("bigint", "bigint unsigned"), false),
            (of("bigint", "bigint unsigned"), of("bigint", "bigint"), false),
            (of("int", "int(11)"), of("int", "int"), true),
            (of("char", "char(5)"), of("varchar", "varchar(5)"), true),
            (of("varchar", "varchar(5)"), of("char", "char(5)"), false),
            (of("varchar", "varchar(20)"), of("varchar", "varchar(19)"), false),
            (of("double", "double"), of("float", "float"), false),
            (of("double", "double"), of("double", "double(8,2)"), false),
            (of("double", "double(8,2)"), of("double", "double"), true),
            (of("float", "float(8,2)"), of("float", "float(8,2)"), true),
            (of("enum", "enum('a','b')"), of("enum", "enum('b','c','a')"), true),
            (of("enum", "enum('a','b')"), of("enum", "enum('b')"), false),
            (of("binary", "binary(4)"), of("binary", "binary(5)"), false),
            (of("date", "date"), of("timestamp", "timestamp"), false),
        ] {
            assert_eq!(holds(&from, &to), wanted, "{from:?} {to:?}");
        }
    }
}
