//! The corruption matrix by column type: one table per type, in which each chunk of three rows has one kind of damage.
//! What is left out here (damage that a type alone can have, keys, tables without one) is in `cases`.

use converge_mysql::Flavor;

use super::cases::Case;

/// A column type and three of its values.
struct Type {
    name: &'static str,
    only: Option<Flavor>,
    declared: &'static str,
    /// A value, and one as near to it as the type has.
    value: &'static str,
    near: &'static str,
    /// What NULL is easily taken for.
    blank: &'static str,
}

const fn of(
    name: &'static str,
    declared: &'static str,
    value: &'static str,
    near: &'static str,
    blank: &'static str,
) -> Type {
    Type { name, only: None, declared, value, near, blank }
}

const fn only(flavor: Flavor, of: Type) -> Type {
    Type { only: Some(flavor), ..of }
}

const TYPES: &[Type] = &[
    of("tinyint", "TINYINT", "127", "126", "0"),
    of("tinyint_unsigned", "TINYINT UNSIGNED", "255", "254", "0"),
    of("smallint", "SMALLINT", "-32768", "-32767", "0"),
    of("smallint_unsigned", "SMALLINT UNSIGNED", "65535", "65534", "0"),
    of("mediumint", "MEDIUMINT", "-8388608", "8388607", "0"),
    of("mediumint_unsigned", "MEDIUMINT UNSIGNED", "16777215", "16777214", "0"),
    of("int", "INT", "-2147483648", "-2147483647", "0"),
    of("int_unsigned", "INT UNSIGNED", "4294967295", "4294967294", "0"),
    of("bigint", "BIGINT", "-9223372036854775808", "-9223372036854775807", "0"),
    of("bigint_unsigned", "BIGINT UNSIGNED", "18446744073709551615", "18446744073709551614", "0"),
    of("int_zerofill", "INT(8) ZEROFILL", "42", "420", "0"),
    of("decimal", "DECIMAL(10,0)", "9999999999", "9999999998", "0"),
    of("decimal_cent", "DECIMAL(5,2)", "-0.01", "0.01", "0"),
    of("decimal_zerofill", "DECIMAL(8,3) ZEROFILL", "1.001", "1.010", "0"),
    of(
        "decimal_widest",
        "DECIMAL(65,30)",
        "-99999999999999999999999999999999999.999999999999999999999999999999",
        "-99999999999999999999999999999999999.999999999999999999999999999998",
        "0",
    ),
    of("float", "FLOAT", "16777215", "16777214", "0"),
    of("float_fraction", "FLOAT", "1.2345678", "1.2345679", "0"),
    of("float_tiny", "FLOAT", "1.1754944e-38", "1.1754945e-38", "0"),
    of("double_ulp", "DOUBLE", "0.3e0", "0.1e0 + 0.2e0", "0"),
    of("double_huge", "DOUBLE", "1.7976931348623157e308", "1.7976931348623155e308", "0"),
    only(Flavor::MySql, of("double_minus_zero", "DOUBLE", "0e0", "'-0'", "0")),
    of("bit_1", "BIT(1)", "b'1'", "b'0'", "b'0'"),
    of("bit_64", "BIT(64)", "18446744073709551615", "9223372036854775807", "0"),
    of("year", "YEAR", "2155", "2154", "0"),
    of("date", "DATE", "'9999-12-31'", "'9999-12-30'", "'0000-00-00'"),
    of("time", "TIME", "'-838:59:59'", "'838:59:59'", "'00:00:00'"),
    of("time_micro", "TIME(6)", "'838:59:58.999999'", "'838:59:58.999998'", "'00:00:00'"),
    of("datetime_hour", "DATETIME", "'2024-03-31 02:30:00'", "'2024-03-31 03:30:00'", "'0000-00-00'"),
    of("datetime_milli", "DATETIME(3)", "'2024-02-29 00:00:00.001'", "'2024-02-29 00:00:00'", "'0000-00-00'"),
    of(
        "datetime_micro",
        "DATETIME(6)",
        "'9999-12-31 23:59:59.999999'",
        "'9999-12-31 23:59:59.999998'",
        "'0000-00-00'",
    ),
    of("timestamp_hour", "TIMESTAMP", "'2020-10-25 00:30:00'", "'2020-10-25 01:30:00'", "'0000-00-00'"),
    of(
        "timestamp_micro",
        "TIMESTAMP(6)",
        "'2038-01-19 03:14:07.999999'",
        "'2038-01-19 03:14:07.999998'",
        "'0000-00-00'",
    ),
    of("char_case", "CHAR(10)", "'Ab'", "'ab'", "''"),
    of("char_null_word", "CHAR(10)", "'NULL'", "'null'", "''"),
    of("char_zero_byte", "CHAR(10)", "'a'", "'a\\0'", "''"),
    of("char_binary", "CHAR(10) CHARACTER SET latin1 COLLATE latin1_bin", "'é'", "'e'", "''"),
    of("varchar_accent", "VARCHAR(20) COLLATE utf8mb4_unicode_ci", "'José'", "'Jose'", "''"),
    of("varchar_space", "VARCHAR(20)", "'a'", "'a '", "' '"),
    of("varchar_zero_byte", "VARCHAR(20)", "'a'", "'a\\0'", "'\\0'"),
    of("varchar_normal_form", "VARCHAR(20)", "_utf8mb4 x'c3a9'", "_utf8mb4 x'65cc81'", "''"),
    of("varchar_invisible", "VARCHAR(20)", "_utf8mb4 x'61e2808b'", "'a'", "''"),
    of("varchar_sharp_s", "VARCHAR(20) COLLATE utf8mb4_unicode_ci", "'ß'", "'ss'", "''"),
    of("varchar_utf8mb3", "VARCHAR(20) CHARACTER SET utf8mb3", "'Ä'", "'ä'", "''"),
    of("varchar_cp1251", "VARCHAR(20) CHARACTER SET cp1251", "'Ж'", "'ж'", "''"),
    of("varchar_koi8r", "VARCHAR(20) CHARACTER SET koi8r", "'Ж'", "'ж'", "''"),
    of("varchar_sjis", "VARCHAR(20) CHARACTER SET sjis", "'あ'", "'ア'", "''"),
    of("varchar_gbk", "VARCHAR(20) CHARACTER SET gbk", "'中'", "'国'", "''"),
    of("varchar_big5", "VARCHAR(20) CHARACTER SET big5", "'中'", "'功'", "''"),
    of("varchar_ujis", "VARCHAR(20) CHARACTER SET ujis", "'あ'", "'ア'", "''"),
    of("varchar_ucs2", "VARCHAR(20) CHARACTER SET ucs2", "'aé'", "'ae'", "''"),
    of("varchar_utf16le", "VARCHAR(20) CHARACTER SET utf16le", "'aé'", "'ae'", "''"),
    of("varchar_utf32", "VARCHAR(20) CHARACTER SET utf32", "'😀'", "'😁'", "''"),
    of("tinytext", "TINYTEXT", "'a'", "'A'", "''"),
    of("text", "TEXT", "REPEAT('é', 2000)", "CONCAT(REPEAT('é', 1999), 'e')", "''"),
    of("mediumtext", "MEDIUMTEXT", "'a,1:b'", "'a,1:c'", "''"),
    of("longtext", "LONGTEXT", "'a'", "'a '", "''"),
    of("binary", "BINARY(4)", "x'61'", "x'61000001'", "x''"),
    of("varbinary", "VARBINARY(9)", "x'6100'", "x'61'", "''"),
    of("tinyblob", "TINYBLOB", "x'00'", "x'0000'", "''"),
    of("blob", "BLOB", "x'ff'", "x'fe'", "''"),
    of("mediumblob", "MEDIUMBLOB", "x'c328'", "x'c329'", "''"),
    of("longblob", "LONGBLOB", "'A'", "'a'", "''"),
    of("enum", "ENUM('a','b','','A2')", "'b'", "'A2'", "''"),
    of("enum_error", "ENUM('a','','b')", "'a'", "''", "0"),
    of("set", "SET('x','y','z')", "'x,z'", "'x,y'", "''"),
    of(
        "set_widest",
        "SET('a0','a1','a2','a3','a4','a5','a6','a7','a8','a9','b0','b1','b2','b3','b4','b5','b6','b7','b8','b9',\
         'c0','c1','c2','c3','c4','c5','c6','c7','c8','c9','d0','d1','d2','d3','d4','d5','d6','d7','d8','d9',\
         'e0','e1','e2','e3','e4','e5','e6','e7','e8','e9','f0','f1','f2','f3','f4','f5','f6','f7','f8','f9',\
         'g0','g1','g2','g3')",
        "'a0,g3'",
        "'a0,g2'",
        "''",
    ),
    of("json_number", "JSON", "'{\"a\": 1}'", "'{\"a\": 1.0}'", "'null'"),
    of("json_string", "JSON", "'1'", "'\"1\"'", "'0'"),
    only(
        Flavor::MySql,
        of("json_sql_date", "JSON", "CAST(DATE'2024-01-01' AS JSON)", "'\"2024-01-01\"'", "'\"\"'"),
    ),
    only(
        Flavor::MySql,
        of("json_sql_decimal", "JSON", "CAST(CAST('1.5' AS DECIMAL(3,1)) AS JSON)", "'1.5'", "'0'"),
    ),
    of("json_bool", "JSON", "'[true]'", "'[1]'", "'\"\"'"),
    of("json_double", "JSON", "'[0.3]'", "'[0.30000000000000004]'", "'{}'"),
    of(
        "geometry",
        "GEOMETRY",
        "ST_GeomFromText('POINT(1 2)')",
        "ST_GeomFromText('POINT(2 1)')",
        "ST_GeomFromText('POINT(0 0)')",
    ),
    of(
        "linestring",
        "LINESTRING",
        "ST_GeomFromText('LINESTRING(0 0,1 1)')",
        "ST_GeomFromText('LINESTRING(1 1,0 0)')",
        "ST_GeomFromText('LINESTRING(0 0,0 0)')",
    ),
    of(
        "point_srid",
        "POINT",
        "ST_GeomFromText('POINT(1 2)', 3857)",
        "ST_GeomFromText('POINT(1 2)', 0)",
        "ST_GeomFromText('POINT(0 0)')",
    ),
    only(
        Flavor::MySql,
        of("vector", "VECTOR(2)", "TO_VECTOR('[1,2]')", "TO_VECTOR('[1,2.0000002]')", "TO_VECTOR('[0,0]')"),
    ),
    only(
        Flavor::MariaDb,
        of(
            "uuid",
            "UUID",
            "'123e4567-e89b-12d3-a456-426655440000'",
            "'123e4567-e89b-12d3-a456-426655440001'",
            "'00000000-0000-0000-0000-000000000000'",
        ),
    ),
    only(Flavor::MariaDb, of("inet4", "INET4", "'127.0.0.1'", "'127.0.0.2'", "'0.0.0.0'")),
    only(Flavor::MariaDb, of("inet6", "INET6", "'::ffff:1.2.3.4'", "'::1.2.3.4'", "'::'")),
    only(Flavor::MariaDb, of("compressed", "TEXT COMPRESSED", "REPEAT('a', 500)", "REPEAT('a', 501)", "''")),
    only(Flavor::MariaDb, of("json_key_order", "JSON", "'{\"a\":1,\"b\":2}'", "'{\"b\":2,\"a\":1}'", "'{}'")),
    only(Flavor::MariaDb, of("json_duplicate", "JSON", "'{\"a\":2}'", "'{\"a\":1,\"a\":2}'", "'{}'")),
];

/// One table per type.
pub fn cases() -> Vec<Case> {
    TYPES.iter().map(case).collect()
}

fn case(of: &Type) -> Case {
    let Type { value, near, blank, .. } = of;
    // What row 9 is damaged to; where a type's blank is its value's neighbour too, both damages stay visible.
    let row = |id: u32| match id {
        9 => format!("({id},NULL,{value})"),
        11 => format!("({id},{near},{value})"),
        20 => format!("({id},{blank},{value})"),
        22 => format!("({id},{value},{near})"),
        _ => format!("({id},{value},{value})"),
    };
    let rows: Vec<String> = (1..=24).map(row).collect();
    // MySQL updates nothing where it calls the new value equal to the old one, as the documents 1 and 1.0: NULL first.
    let clear = |id: u32| format!("UPDATE T SET v = NULL, w = NULL WHERE id = {id}");
    let set = |id: u32, what: &str| format!("UPDATE T SET v = {what}, w = {value} WHERE id = {id}");
    let mut damage: Vec<String> = [2, 10, 11, 13, 14, 22].map(clear).into();
    damage.extend([
        // One row changed, in the middle of a chunk.
        set(2, near),
        // To NULL, the chunk's first row; from NULL, the chunk's last row; and from what looks like NULL.
        set(4, "NULL"),
        set(9, blank),
        set(20, "NULL"),
        // Two rows' contents swapped.
        set(10, near),
        set(11, value),
        // The same edit in two rows.
        set(13, near),
        set(14, near),
        "DELETE FROM T WHERE id = 17".into(),
        // Two columns swapped.
        set(22, near),
        format!("INSERT INTO T VALUES (0,{value},{value}),(40,{value},{near})"),
    ]);
    let mut found: Vec<String> =
        [2, 4, 9, 10, 11, 13, 14, 20].map(|id| format!("mismatched {{\"id\":{id}}} v")).into();
    found.push("mismatched {\"id\":22} v,w".into());
    found.push("extra_source {\"id\":17} ".into());
    found.extend([0, 40].map(|id| format!("extra_target {{\"id\":{id}}} ")));
    Case {
        table: format!("type_{}", of.name),
        only: of.only,
        columns: format!("id INT PRIMARY KEY, v {d} NULL, w {d} NULL", d = of.declared),
        table_options: String::new(),
        rows: format!("VALUES {}", rows.join(",")),
        damage,
        found,
    }
}
