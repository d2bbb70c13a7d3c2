//! What columns hold, by their definitions.

use proptest::prelude::*;

use super::*;
use crate::form::Pairing;
use crate::repair::value::{HEAD, Long};

/// A column as a server describes it.
fn column(declared: &str) -> Column {
    let (kind, set) = declared.split_once(" in ").unwrap_or((declared, ""));
    let data_type = kind.split(['(', ' ']).next().unwrap().to_owned();
    let numbers: Vec<u32> = kind
        .split_once('(')
        .map(|(_, rest)| rest.split([',', ')']).filter_map(|n| n.parse().ok()).collect())
        .unwrap_or_default();
    let number = |at: usize| numbers.get(at).copied().unwrap_or(0);
    let is_moment = ["datetime", "timestamp", "time"].contains(&data_type.as_str());
    let octets = match data_type.as_str() {
        "tinytext" => 255,
        "text" | "blob" => 65_535,
        "binary" | "varbinary" => number(0).into(),
        _ => u64::from(number(0)) * 4,
    };
    Column {
        name: "v".into(),
        column_type: kind.into(),
        charset: Some(set.to_owned()).filter(|set| !set.is_empty()),
        precision: number(0),
        scale: number(1),
        fraction: if is_moment { number(0) } else { 0 },
        octets,
        data_type,
        ..Column::default()
    }
}

fn fits(types: [&str; 2], flavor: Flavor, value: &Value) -> (Fit, String) {
    let columns = types.map(column);
    let pair = [&columns[0], &columns[1]];
    let form = Pairing { columns: pair, flavors: [Flavor::MySql, flavor] }.form().unwrap();
    let writes = Writes::of(pair[0], pair[1], &form).unwrap();
    let room = Room { columns: pair, flavor, writes: &writes };
    let fit = room.fit(value);
    (fit.clone(), room.why(value, &fit))
}

fn fit(types: [&str; 2], piece: &str) -> Fit {
    fits(types, Flavor::MySql, &Value::Whole(piece.as_bytes().to_vec())).0
}

fn bits(number: f64) -> String {
    format!("{:016X}", number.to_bits().swap_bytes())
}

#[test]
fn definitions_that_are_alike_hold_the_same() {
    for (types, piece) in [
        (["int(11)", "int"], "99999999999"),
        (["double(10,2)"; 2], "not a number"),
        (["varchar(3) in utf8", "varchar(3) in utf8mb3"], "too long"),
        (["enum('a')"; 2], "1"),
        (["datetime(3)"; 2], "2024-02-31 00:00:00.123"),
    ] {
        assert_eq!(fit(types, piece), Fit::Holds, "{types:?}");
    }
    // Names of members in another letter case are other names.
    let unlike = ["enum('a') in latin1", "enum('A') in latin1"];
    assert_eq!(fit(unlike, "a"), Fit::Lacks);
}

#[test]
fn families_keep_what_they_can() {
    let on =
        |flavor, kind: &str, piece: &str| fits([kind; 2], flavor, &Value::Whole(piece.as_bytes().to_vec()));
    let (fit, why) = on(Flavor::MariaDb, "double", &bits(-0.0));
    assert!(fit == Fit::Lacks && why.contains("MariaDB makes 0"), "{why}");
    assert_eq!(on(Flavor::MySql, "double", &bits(-0.0)).0, Fit::Holds);
    let (fit, why) = on(Flavor::MySql, "time(6)", "-838:59:59.500000");
    assert!(fit == Fit::Lacks && why.contains("on both sides"), "{why}");
    assert_eq!(on(Flavor::MySql, "time(6)", "838:59:59.000000").0, Fit::Holds);
    assert_eq!(on(Flavor::MariaDb, "time(6)", "838:59:59.999999").0, Fit::Holds);
    let late = "2040-01-01 00:00:00";
    assert_eq!(on(Flavor::MySql, "timestamp", late).0, Fit::Lacks);
    assert_eq!(on(Flavor::MariaDb, "timestamp", late).0, Fit::Asks(format!("UNIX_TIMESTAMP('{late}') > 0")));
    for moment in ["0000-00-00 00:00:00", "2038-01-19 03:14:07", "1970-01-01 00:00:01"] {
        assert_eq!(on(Flavor::MySql, "timestamp", moment).0, Fit::Holds);
    }
}

#[test]
fn numbers_fit_where_no_digit_is_lost() {
    for (types, piece, holds) in [
        (["bigint", "tinyint"], "-128", true),
        (["bigint", "tinyint"], "128", false),
        (["bigint", "tinyint unsigned"], "-1", false),
        (["bigint", "bigint unsigned"], "9223372036854775807", true),
        (["int", "bit(3)"], "7", true),
        (["int", "bit(3)"], "8", false),
        (["int", "year"], "0", true),
        (["int", "year"], "99", false),
        (["decimal(20,6)", "int"], "7.000000", true),
        (["decimal(20,6)", "int"], "7.000001", false),
        (["decimal(20,6)", "decimal(4,2)"], "-99.990000", true),
        (["decimal(20,6)", "decimal(4,2)"], "100.000000", false),
        (["decimal(20,6)", "decimal(4,2)"], "0.001000", false),
        (["decimal(20,6)", "decimal(4,2) unsigned"], "-1.000000", false),
    ] {
        assert_eq!(fit(types, piece), Fit::sure(holds), "{types:?} {piece}");
    }
    assert_eq!(fit(["int", "year(2)"], "1999"), Fit::Unsure);
    assert_eq!(fit(["double", "double(10,2)"], &bits(0.5)), Fit::Unsure);
    assert_eq!(fit(["double", "double unsigned"], &bits(-0.5)), Fit::Lacks);
}

#[test]
fn moments_fit_where_no_digit_is_lost() {
    for (types, piece, holds) in [
        (["datetime(6)", "datetime"], "2024-01-01 00:00:00.000000", true),
        (["datetime(6)", "datetime"], "2024-01-01 00:00:00.000001", false),
        (["time(6)", "time(2)"], "10:00:00.120000", true),
        (["time(6)", "time(2)"], "10:00:00.125000", false),
        (["datetime", "date"], "2024-01-01 00:00:00", true),
        (["datetime", "date"], "2024-01-01 00:00:01", false),
        (["datetime", "timestamp"], "2024-02-29 00:00:00", true),
        (["datetime", "timestamp"], "2023-02-29 00:00:00", false),
        (["datetime", "timestamp"], "1970-01-01 00:00:00", false),
    ] {
        assert_eq!(fit(types, piece), Fit::sure(holds), "{types:?} {piece}");
    }
}

#[test]
fn text_fits_in_set_and_length() {
    for (types, piece, holds) in [
        (["varchar(9) in utf8mb4", "varchar(2) in utf8mb4"], "é😀", true),
        (["varchar(9) in utf8mb4", "varchar(2) in utf8mb4"], "abc", false),
        (["varchar(9) in utf8mb4", "varchar(9) in utf8mb3"], "😀", false),
        (["varchar(9) in utf8mb4", "varchar(9) in latin1"], "é€", true),
        (["varchar(9) in utf8mb4", "varchar(9) in latin1"], "Ж", false),
        (["varchar(9) in utf8mb4", "varchar(9) in ascii"], "é", false),
        (["varchar(9) in utf8mb4", "char(9) in utf8mb4"], "a ", false),
        (["varchar(9) in latin1", "varchar(2) in latin1"], "abc", false),
        (["text in utf8mb4", "varchar(3) in gbk"], "abc", true),
        (["varbinary(9)", "binary(2)"], "a", false),
        (["varbinary(9)", "varbinary(2)"], "ab", true),
        (["varchar(9) in utf8mb4", "set('x','y') in utf8mb4"], "x,y", true),
        (["varchar(9) in utf8mb4", "set('x','y') in utf8mb4"], "y,x", false),
        (["varchar(9) in utf8mb4", "set('x','y') in utf8mb4"], "x,", false),
        (["varchar(9) in utf8mb4", "enum('x','y') in utf8mb4"], "", false),
        (["varchar(99) in utf8mb4", "json"], "[1]", true),
        (["varchar(99) in utf8mb4", "json"], "[1", false),
    ] {
        assert_eq!(fit(types, piece), Fit::sure(holds), "{types:?} {piece}");
    }
    assert!(matches!(fit(["varchar(9) in utf8mb4", "varchar(9) in cp1251"], "Ж"), Fit::Asks(_)));
    assert_eq!(fit(["varchar(9) in utf8mb4", "varchar(1) in cp1251"], "Жж"), Fit::Lacks);
    assert_eq!(fit(["varchar(9) in utf8mb4", "enum('?') in utf8mb4"], "?"), Fit::Unsure);
    let error =
        fits(["enum('a') in latin1", "varchar(9) in latin1"], Flavor::MySql, &Value::Whole(vec![0xff, 0]));
    assert!(error.0 == Fit::Lacks && error.1.contains("alter the target's column"), "{}", error.1);
}

#[test]
fn addresses_fit_in_their_own_spelling() {
    let on = |kind, piece: &str| {
        let types = ["varchar(50) in utf8mb4", kind];
        fits(types, Flavor::MariaDb, &Value::Whole(piece.as_bytes().to_vec())).0
    };
    assert_eq!(on("uuid", "123e4567-e89b-12d3-a456-426655440000"), Fit::Holds);
    assert_eq!(on("uuid", "123E4567-E89B-12D3-A456-426655440000"), Fit::Unsure);
    assert_eq!(on("inet4", "10.0.0.1"), Fit::Holds);
    assert_eq!(on("inet4", "10.0.0.01"), Fit::Unsure);
    assert_eq!(on("inet6", "::1"), Fit::Unsure);
}

#[test]
fn long_text_fits_by_its_letters() {
    let on = |types, length, letters| {
        let long = Long { sha256: "ab".into(), length, head: [b'a'; HEAD], letters };
        fits(types, Flavor::MySql, &Value::Long(long)).0
    };
    let wide = "text in utf8mb4";
    assert_eq!(on([wide, "varchar(600) in utf8mb4"], 1200, Some(600)), Fit::Holds);
    assert_eq!(on([wide, "varchar(599) in utf8mb4"], 1200, Some(600)), Fit::Lacks);
    assert_eq!(on([wide, "text in utf8mb3"], 1200, Some(600)), Fit::Unsure);
    assert_eq!(on([wide, "text in latin1"], 1200, Some(1200)), Fit::Holds);
    assert_eq!(on([wide, "text in utf16"], 40_000, Some(40_000)), Fit::Lacks);
    assert_eq!(on(["text in cp1251", wide], 1200, Some(600)), Fit::Holds);
    assert_eq!(on(["text in cp1251", "tinytext in utf8mb4"], 1200, Some(600)), Fit::Lacks);
    assert_eq!(on(["blob", wide], 1200, None), Fit::Unsure);
    assert_eq!(on(["blob", "varbinary(1000)"], 1200, None), Fit::Lacks);
}

proptest! {
    #[test]
    fn a_decimal_fits_where_scaling_loses_nothing(units in -10_000_000i64..10_000_000, whole in 1u32..6, scale in 0u32..4) {
        let piece = format!("{}{}.{:04}", if units < 0 { "-" } else { "" }, units.abs() / 10_000, units.abs() % 10_000);
        let kept = units % 10i64.pow(4 - scale) == 0 && units.abs() / 10_000 < 10i64.pow(whole);
        let target = format!("decimal({},{scale})", whole + scale);
        prop_assert_eq!(fit(["decimal(30,4)", &target], &piece), Fit::sure(kept));
    }

    #[test]
    fn an_integer_fits_where_it_is_read_back(number in any::<i64>()) {
        let piece = number.to_string();
        for (kind, holds) in [
            ("tinyint", i8::try_from(number).is_ok()),
            ("smallint unsigned", u16::try_from(number).is_ok()),
            ("int", i32::try_from(number).is_ok()),
            ("bigint unsigned", u64::try_from(number).is_ok()),
        ] {
            prop_assert_eq!(fit(["bigint", kind], &piece), Fit::sure(holds));
        }
    }

    #[test]
    fn a_double_fits_a_float_of_the_same_value(bits_of in any::<u64>(), single in any::<f32>()) {
        let number = f64::from_bits(bits_of);
        prop_assume!(number.is_finite() && single.is_finite());
        let kept = f64::from(number as f32) == number;
        prop_assert_eq!(fit(["double", "float"], &bits(number)), Fit::sure(kept));
        prop_assert_eq!(fit(["double", "float"], &bits(single.into())), Fit::Holds);
    }

    #[test]
    fn a_text_fits_where_it_has_no_more_letters(text in "\\PC{0,12}[a-z]", most in 1u64..14) {
        let target = format!("varchar({most}) in utf8mb4");
        let kept = text.chars().count() as u64 <= most;
        prop_assert_eq!(fit(["text in utf8mb4", &target], &text), Fit::sure(kept));
    }
}
