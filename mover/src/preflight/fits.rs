//! Whether each value of one column has its place in another one. Pure.
//!
//! The mover notices what a server warns of. Nothing warns where a server takes a value for another one: digits that
//! are rounded, spaces that are cut, members of an ENUM that stand at another place. So only pairs of types that are
//! known to lose nothing without a word are taken.

use crate::schema::{Address, Column, Kind};

/// What becomes of the values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// Each arrives as it is.
    Whole,
    /// Each arrives as it is, or stops the workflow: why it may not.
    OrStops(&'static str),
    /// Some may become others, and nobody would notice: how.
    Alters(&'static str),
}

use Fit::{Alters, OrStops, Whole};

const OUT_OF_RANGE: Fit = OrStops("a number that is out of its range stops the workflow");
const ROUNDED: Fit = Alters("digits would be rounded off without a word");
const LACKS: Fit = OrStops("a character that its character set does not have stops the workflow");
const OTHER: Fit = Alters("values would become others without a word");

/// Judges by the types as `information_schema` shows them.
pub fn fit(from: &Column, to: &Column) -> Fit {
    let (a, b) = (Type::of(&from.sql_type), Type::of(&to.sql_type));
    match (&from.kind, &to.kind) {
        (Kind::Int { .. }, Kind::Int { .. }) => within(holds_integers(&a, &b)),
        (Kind::Int { .. }, Kind::Decimal) => {
            within(b.whole_digits() >= a.whole_digits() && (a.unsigned || !b.unsigned))
        }
        (Kind::Decimal, Kind::Decimal) if b.scale() < a.scale() => ROUNDED,
        (Kind::Decimal, Kind::Decimal) => {
            within(b.whole_digits() >= a.whole_digits() && (a.unsigned || !b.unsigned))
        }
        (Kind::Float | Kind::Double, Kind::Float | Kind::Double) => floats(&a, &b),
        (Kind::Bit, Kind::Bit) => {
            if b.size() >= a.size() {
                Whole
            } else {
                OTHER
            }
        }
        (Kind::Year, Kind::Year) | (Kind::Date, Kind::Date | Kind::DateTime(_)) => Whole,
        (Kind::Time(x), Kind::Time(y))
        | (Kind::DateTime(x), Kind::DateTime(y))
        | (Kind::Timestamp(x), Kind::Timestamp(y)) => {
            if y >= x {
                Whole
            } else {
                ROUNDED
            }
        }
        (Kind::Char { charset: x, .. }, Kind::Char { charset: y, .. }) => texts((&a, x), (&b, y)),
        (Kind::FixedBinary(x), Kind::FixedBinary(y)) if x == y => Whole,
        (Kind::FixedBinary(_) | Kind::Binary, Kind::Binary) => binaries(&a, &b),
        (Kind::Enum, Kind::Enum) | (Kind::Set, Kind::Set) => members(&a, &b),
        (Kind::Json | Kind::JsonText, Kind::Json) => Whole,
        (Kind::Json | Kind::JsonText, Kind::Char { charset, .. }) => {
            if b.name == "longtext" && charset == "utf8mb4" { Whole } else { OTHER }
        }
        (Kind::Char { .. }, Kind::Json) if a.name == "longtext" => OrStops(
            "a text that is no JSON stops the workflow, and one that is keeps its values, not its spelling: spaces, the order \
             of members, and a member that is there twice",
        ),
        (Kind::Address(x), Kind::Address(y)) if x == y => Whole,
        (Kind::Address(address), Kind::Char { .. }) if b.size() >= written(*address) => Whole,
        _ => OTHER,
    }
}

fn within(fits: bool) -> Fit {
    if fits { Whole } else { OUT_OF_RANGE }
}

fn holds_integers(a: &Type<'_>, b: &Type<'_>) -> bool {
    match (a.unsigned, b.unsigned) {
        (true, true) | (false, false) => b.bits() >= a.bits(),
        (true, false) => b.bits() > a.bits(),
        (false, true) => false,
    }
}

fn floats(a: &Type<'_>, b: &Type<'_>) -> Fit {
    let narrower = a.name == "double" && b.name == "float";
    let rounded = b.arguments.is_some() && (&a.name, a.arguments) != (&b.name, b.arguments);
    match () {
        () if narrower || rounded => ROUNDED,
        () => within(a.unsigned || !b.unsigned),
    }
}

/// No value of a LONGTEXT is longer than what a server takes in one packet.
const LONGEST: u64 = (1 << 30) - 1;

fn texts((a, from): (&Type<'_>, &str), (b, to): (&Type<'_>, &str)) -> Fit {
    const CUT: Fit = Alters("what is too long would be cut, spaces at the end without a word");
    if b.name == "char" {
        if a.name != "char" {
            return Alters("CHAR drops the spaces at the end of each value");
        }
        if b.size() < a.size() {
            return CUT;
        }
    } else if b.name == "varchar" {
        if b.size() < a.size() {
            return CUT;
        }
    } else {
        // Of a long type the size is in bytes, and no server warns of spaces that are cut where those are too few.
        let bytes =
            if a.is_long() { a.size().min(LONGEST) * growth(from, to) } else { a.size() * widest(to) };
        if b.size() < bytes {
            return CUT;
        }
    }
    match has_all(from, to) {
        true => Whole,
        false => LACKS,
    }
}

/// How many bytes of one character set stand for one of another at most.
fn growth(from: &str, to: &str) -> u64 {
    match (from, to) {
        (from, to) if from == to => 1,
        // Nothing that they have in common takes more in the one.
        ("ascii", "utf8" | "utf8mb3" | "utf8mb4" | "latin1")
        | ("utf8" | "utf8mb3", "utf8" | "utf8mb3" | "utf8mb4") => 1,
        ("utf8mb4", "utf8" | "utf8mb3") | ("ucs2", "utf16" | "utf16le") => 1,
        (_, to) => widest(to),
    }
}

/// Bytes that the widest character takes.
fn widest(charset: &str) -> u64 {
    match charset {
        "utf8mb4" | "utf16" | "utf16le" | "utf32" | "gb18030" => 4,
        "utf8" | "utf8mb3" | "ujis" | "eucjpms" => 3,
        "ucs2" | "big5" | "gbk" | "gb2312" | "sjis" | "cp932" | "euckr" => 2,
        _ => 1,
    }
}

/// Whether a character set has all characters of another.
fn has_all(from: &str, to: &str) -> bool {
    const ALL: [&str; 4] = ["utf8mb4", "utf16", "utf16le", "utf32"];
    const BASIC: [&str; 3] = ["utf8", "utf8mb3", "ucs2"];
    let beyond_basic = ALL.contains(&from) || matches!(from, "gb18030" | "big5" | "eucjpms" | "ujis");
    from == to || ALL.contains(&to) || BASIC.contains(&to) && !beyond_basic || from == "ascii"
}

/// Whether characters of a set can be outside of what `information_schema` can show: it puts a `?` in their place.
pub fn beyond_what_is_shown(charset: &str) -> bool {
    !has_all(charset, "utf8mb3")
}

fn binaries(a: &Type<'_>, b: &Type<'_>) -> Fit {
    let spatial = |t: &Type<'_>| !(t.is_long() || matches!(&*t.name, "binary" | "varbinary" | "vector"));
    if spatial(a) || spatial(b) {
        return if a.name == b.name || spatial(a) && b.name == "geometry" { Whole } else { OTHER };
    }
    match () {
        () if b.name == "vector" => {
            if a == b {
                Whole
            } else {
                OTHER
            }
        }
        () if b.size() >= a.size() => Whole,
        () => Alters("what is too long would be cut"),
    }
}

/// Members are moved by their number.
fn members(a: &Type<'_>, b: &Type<'_>) -> Fit {
    let (a, b) = (a.arguments.unwrap_or_default(), b.arguments.unwrap_or_default());
    match b.strip_prefix(a) {
        Some(rest) if rest.is_empty() || rest.starts_with(',') => Whole,
        _ => Alters("members are moved by their number, and each number must be the same member there"),
    }
}

/// Characters of the longest text that an address is written as.
fn written(address: Address) -> u64 {
    match address {
        Address::Uuid => 36,
        Address::Inet6 => 39,
        Address::Inet4 => 15,
    }
}

/// A type as `information_schema` shows it.
#[derive(Debug, PartialEq, Eq)]
struct Type<'a> {
    name: String,
    arguments: Option<&'a str>,
    unsigned: bool,
}

impl<'a> Type<'a> {
    fn of(sql_type: &'a str) -> Self {
        let name_end = sql_type.find(['(', ' ']).unwrap_or(sql_type.len());
        let close = sql_type.rfind(')');
        let arguments =
            sql_type[name_end..].strip_prefix('(').and_then(|_| sql_type.get(name_end + 1..close?));
        let name = sql_type[..name_end].to_lowercase();
        Self {
            // The products' two names for one type.
            name: if name == "geomcollection" { "geometrycollection".into() } else { name },
            arguments,
            unsigned: sql_type[close.unwrap_or(name_end)..].to_lowercase().contains("unsigned"),
        }
    }

    fn number(&self, at: usize) -> Option<u64> {
        self.arguments?.split(',').nth(at)?.trim().parse().ok()
    }

    fn bits(&self) -> u64 {
        match self.name.as_str() {
            "tinyint" => 8,
            "smallint" => 16,
            "mediumint" => 24,
            "int" => 32,
            _ => 64,
        }
    }

    fn scale(&self) -> u64 {
        self.number(1).unwrap_or(0)
    }

    /// Digits before the point.
    fn whole_digits(&self) -> u64 {
        match (self.name.as_str(), self.unsigned) {
            ("tinyint", _) => 3,
            ("smallint", _) => 5,
            ("mediumint", signed) => 7 + u64::from(signed),
            ("int", _) => 10,
            ("bigint", signed) => 19 + u64::from(signed),
            _ => self.number(0).unwrap_or(10).saturating_sub(self.scale()),
        }
    }

    /// Whether it is one of the TEXT and BLOB types.
    fn is_long(&self) -> bool {
        self.name.ends_with("text") || self.name.ends_with("blob")
    }

    /// Characters, bytes or bits: what its length counts.
    fn size(&self) -> u64 {
        match self.name.as_str() {
            "tinytext" | "tinyblob" => 255,
            "text" | "blob" => 65_535,
            "mediumtext" | "mediumblob" => (1 << 24) - 1,
            "longtext" | "longblob" => (1 << 32) - 1,
            "vector" => 4 * self.number(0).unwrap_or(2048),
            _ => self.number(0).unwrap_or(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A column of the kind that the type is read as.
    fn column(sql_type: &str, charset: &str) -> Column {
        let parsed = Type::of(sql_type);
        let digits = parsed.number(0).unwrap_or(0) as u8;
        let kind = match parsed.name.as_str() {
            "tinyint" | "int" | "bigint" => Kind::Int { unsigned: parsed.unsigned },
            "decimal" => Kind::Decimal,
            "float" => Kind::Float,
            "double" => Kind::Double,
            "bit" => Kind::Bit,
            "date" => Kind::Date,
            "time" => Kind::Time(digits),
            "datetime" => Kind::DateTime(digits),
            "timestamp" => Kind::Timestamp(digits),
            "binary" => Kind::FixedBinary(usize::from(digits)),
            "enum" => Kind::Enum,
            "set" => Kind::Set,
            "json" => Kind::Json,
            "uuid" => Kind::Address(Address::Uuid),
            name if name.ends_with("char") || name.ends_with("text") => {
                Kind::Char { charset: charset.into(), collation: String::new() }
            }
            _ => Kind::Binary,
        };
        Column { sql_type: sql_type.into(), ..Column::for_tests("c", kind) }
    }

    fn judge(from: &str, to: &str) -> Fit {
        fit(&column(from, "utf8mb4"), &column(to, "utf8mb4"))
    }

    #[test]
    fn what_holds_every_value_is_taken() {
        for (from, to) in [
            ("int(10) unsigned", "int unsigned"),
            ("tinyint(1)", "bigint(20)"),
            ("int unsigned", "bigint"),
            ("bigint unsigned", "decimal(20,0)"),
            ("decimal(10,2)", "decimal(12,4)"),
            ("float", "double"),
            ("float(7,4)", "float(7,4)"),
            ("double(9,2)", "double"),
            ("bit(3)", "bit(8)"),
            ("date", "datetime(6)"),
            ("datetime", "datetime(3)"),
            ("time(3) /* mariadb-5.3 */", "time(6)"),
            ("char(9)", "varchar(9)"),
            ("varchar(63)", "tinytext"),
            ("varchar(64)", "text"),
            ("tinytext", "varchar(255)"),
            ("text", "longtext"),
            ("binary(3)", "varbinary(3)"),
            ("varbinary(9)", "blob"),
            ("vector(3)", "varbinary(12)"),
            ("geomcollection", "geometrycollection"),
            ("point", "geometry"),
            ("enum('a','b')", "enum('a','b','c')"),
            ("set('a')", "set('a','b')"),
            ("json", "json"),
            ("json", "longtext"),
            ("uuid", "char(36)"),
        ] {
            assert_eq!(judge(from, to), Whole, "{from} to {to}");
        }
    }

    #[test]
    fn what_alters_values_without_a_word_is_not() {
        for (from, to) in [
            ("enum('a','b','c')", "enum('c','b','a')"),
            ("enum('a','B')", "enum('A','b')"),
            ("enum('a')", "enum('a''b')"),
            ("enum('a')", "varchar(9)"),
            ("set('a','b')", "set('b','a')"),
            ("decimal(10,4)", "decimal(10,2)"),
            ("datetime(6)", "datetime"),
            ("datetime", "date"),
            ("time(6)", "time(3)"),
            ("timestamp", "datetime"),
            ("double", "float"),
            ("double", "int"),
            ("double", "decimal(30,9)"),
            ("double", "double(9,2)"),
            ("float", "float(7,4)"),
            ("bigint", "double"),
            ("bit(8)", "varchar(9)"),
            ("bit(8)", "bit(3)"),
            ("varchar(9)", "char(9)"),
            ("varchar(10)", "varchar(3)"),
            ("varchar(64)", "tinytext"),
            ("text", "tinytext"),
            ("text", "varchar(1000)"),
            ("varbinary(9)", "binary(9)"),
            ("binary(3)", "binary(4)"),
            ("varbinary(9)", "varbinary(8)"),
            ("blob", "text"),
            ("point", "blob"),
            ("uuid", "char(35)"),
            ("int", "varchar(20)"),
            ("json", "text"),
        ] {
            assert!(matches!(judge(from, to), Alters(_)), "{from} to {to}: {:?}", judge(from, to));
        }
    }

    #[test]
    fn what_the_server_warns_of_may_stop_the_workflow() {
        for (from, to) in [
            ("bigint", "int"),
            ("int", "int unsigned"),
            ("int", "decimal(9,0)"),
            ("decimal(10,2)", "decimal(9,2)"),
            ("float", "float unsigned"),
            ("longtext", "json"),
        ] {
            assert!(matches!(judge(from, to), OrStops(_)), "{from} to {to}");
        }
        let texts = |from: (&str, &str), to: (&str, &str)| fit(&column(from.0, from.1), &column(to.0, to.1));
        assert!(matches!(texts(("varchar(9)", "utf8mb4"), ("varchar(9)", "latin1")), OrStops(_)));
        assert_eq!(texts(("varchar(9)", "latin1"), ("varchar(9)", "utf8mb3")), Whole);
        assert_eq!(texts(("varchar(9)", "gb18030"), ("varchar(9)", "utf8mb4")), Whole);
        // Spaces at the end of what is too long are cut without a warning.
        for (from, to) in
            [("latin1", "utf8mb4"), ("utf8mb4", "utf16"), ("utf8mb3", "ucs2"), ("gbk", "utf8mb4")]
        {
            assert!(matches!(texts(("text", from), ("text", to)), Alters(_)), "{from} to {to}");
            assert_eq!(
                texts(("text", from), ("mediumtext", to)),
                if has_all(from, to) { Whole } else { LACKS }
            );
        }
        for (from, to) in [("utf8mb3", "utf8mb4"), ("ascii", "utf8mb4"), ("ucs2", "utf16")] {
            assert_eq!(texts(("text", from), ("text", to)), Whole, "{from} to {to}");
        }
        assert_eq!(texts(("longtext", "latin1"), ("longtext", "utf8mb4")), Whole);
        assert!(beyond_what_is_shown("utf8mb4") && !beyond_what_is_shown("latin1"));
    }
}
