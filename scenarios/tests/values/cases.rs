//! The type matrix: tables and boundary values as SQL literals. A case never says how a value is moved, only that
//! it must arrive as it was.

use converge_mysql::Flavor;

/// One table and its values.
pub struct Case {
    /// The table's name.
    pub table: &'static str,
    /// Source servers that have what it takes; `None` for all.
    pub only: Option<Flavor>,
    /// Whether it crosses to the other product too.
    pub crosses: bool,
    /// Columns and keys behind `id INT PRIMARY KEY`.
    pub columns: &'static str,
    /// What stands behind the closing parenthesis.
    pub options: &'static str,
    /// One row each: values of the columns that are not generated, in order.
    pub rows: &'static [&'static str],
}

const fn case(table: &'static str, columns: &'static str, rows: &'static [&'static str]) -> Case {
    Case { table, only: None, crosses: true, columns, options: "", rows }
}

const fn mysql(table: &'static str, columns: &'static str, rows: &'static [&'static str]) -> Case {
    Case { only: Some(Flavor::MySql), ..case(table, columns, rows) }
}

const fn mariadb(table: &'static str, columns: &'static str, rows: &'static [&'static str]) -> Case {
    Case { only: Some(Flavor::MariaDb), ..case(table, columns, rows) }
}

impl Case {
    const fn at_home(self) -> Self {
        Self { crosses: false, ..self }
    }

    const fn with(self, options: &'static str) -> Self {
        Self { options, ..self }
    }
}

/// What both products have.
pub const COMMON: &[Case] = &[
    case(
        "signed_integers",
        "a TINYINT, b SMALLINT, c MEDIUMINT, d INT, e BIGINT, f BOOLEAN",
        &[
            "-128, -32768, -8388608, -2147483648, -9223372036854775808, FALSE",
            "127, 32767, 8388607, 2147483647, 9223372036854775807, TRUE",
            "-1, -1, -1, -1, -1, 2",
            "0, 0, 0, 0, 0, NULL",
            "NULL, NULL, NULL, NULL, NULL, NULL",
        ],
    ),
    case(
        "unsigned_integers",
        "a TINYINT UNSIGNED, b SMALLINT UNSIGNED, c MEDIUMINT UNSIGNED, d INT UNSIGNED, e BIGINT UNSIGNED",
        &[
            "255, 65535, 16777215, 4294967295, 18446744073709551615",
            "128, 32768, 8388608, 2147483648, 9223372036854775808",
            "0, 0, 0, 0, 0",
        ],
    ),
    case(
        "zerofill",
        "a INT(6) ZEROFILL, b DECIMAL(9,2) ZEROFILL",
        &["42, 1.5", "0, 0", "4294967295, 9999999.99"],
    ),
    case(
        "bits",
        "a BIT(1), b BIT(7), c BIT(8), d BIT(9), e BIT(31), f BIT(32), g BIT(33), h BIT(63), i BIT(64)",
        &[
            "b'1', b'1111111', b'11111111', b'111111111', 2147483647, 4294967295, 8589934591, 9223372036854775807, 18446744073709551615",
            "0, 0, 0, 0, 0, 0, 0, 0, 0",
            "b'1', b'1000001', b'10000001', b'100000001', 39, 92, 10, 26, 27",
            "NULL, 39, 92, 256, 65536, 16777216, 4294967296, 1, 9223372036854775808",
        ],
    ),
    case(
        "decimals",
        "a DECIMAL(65,30), b DECIMAL(65,0), c DECIMAL(1,1), d DECIMAL(9,9), e DECIMAL(10,0), f DECIMAL(18,9), g DECIMAL(19,10), h DECIMAL(30,30)",
        &[
            "99999999999999999999999999999999999.999999999999999999999999999999, 99999999999999999999999999999999999999999999999999999999999999999, \
             0.9, 0.999999999, 9999999999, 999999999.999999999, 999999999.9999999999, 0.999999999999999999999999999999",
            "-99999999999999999999999999999999999.999999999999999999999999999999, -99999999999999999999999999999999999999999999999999999999999999999, \
             -0.9, -0.999999999, -9999999999, -999999999.999999999, -999999999.9999999999, -0.999999999999999999999999999999",
            "-0.000000000000000000000000000001, -1, -0.1, -0.000000001, -1, -0.000000001, -0.0000000001, -0.000000000000000000000000000001",
            "0, 0, 0, 0, 0, 0, 0, 0",
            "1.10, 1000000000, 0.1, 0.1, 1000000000, 1000000.1, 10, 0.1",
            "NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL",
        ],
    ),
    case(
        "reals",
        "a FLOAT, b DOUBLE",
        &[
            "3.402823466e38, 1.7976931348623157e308",
            "-3.402823466e38, -1.7976931348623157e308",
            "1.4e-45, 5e-324",
            "-1.4e-45, -5e-324",
            "1.17549435e-38, 2.2250738585072014e-308",
            "1.1754942e-38, 2.225073858507201e-308",
            "0, 0",
            "16777215, 9007199254740993",
            "16777216, 9007199254740992",
            "1.2345678, 0.1",
            "0.1, 0.30000000000000004",
            "8388609.0, 1e22",
            "33554434, 123456789012345680",
            "NULL, NULL",
        ],
    ),
    case(
        "dates",
        "a DATE, y YEAR",
        &[
            "'0000-00-00', 0",
            "'2024-00-15', 1901",
            "'2024-11-00', 2155",
            "'0000-01-01', 1970",
            "'9999-12-31', 2000",
            "'2023-02-30', NULL",
            "NULL, 1999",
        ],
    ),
    case(
        "datetimes",
        "a DATETIME, b DATETIME(1), c DATETIME(2), d DATETIME(3), e DATETIME(4), f DATETIME(5), g DATETIME(6)",
        &[
            "'0000-00-00', '0000-00-00', '0000-00-00', '0000-00-00', '0000-00-00', '0000-00-00', '0000-00-00'",
            "'9999-12-31 23:59:59', '9999-12-31 23:59:59.9', '9999-12-31 23:59:59.99', '9999-12-31 23:59:59.999', '9999-12-31 23:59:59.9999', \
             '9999-12-31 23:59:59.99999', '9999-12-31 23:59:59.999999'",
            "'2024-00-15 01:02:03', '2024-00-15 01:02:03.1', '2024-02-31 01:02:03.01', '2024-02-29 00:00:00.001', '0000-01-01 00:00:00.0001', \
             '1000-01-01 00:00:00.00001', '1969-12-31 23:59:59.000001'",
            "'2024-03-31 02:30:00', '2024-03-31 02:30:00', '2024-10-27 02:30:00', '2024-10-27 02:30:00', NULL, NULL, NULL",
        ],
    ),
    case(
        "times",
        "a TIME, b TIME(1), c TIME(2), d TIME(3), e TIME(4), f TIME(5), g TIME(6)",
        &[
            "'-838:59:59', '-838:59:58.9', '-838:59:58.99', '-838:59:58.999', '-838:59:58.9999', '-838:59:58.99999', '-838:59:58.999999'",
            "'838:59:59', '838:59:58.9', '838:59:58.99', '838:59:58.999', '838:59:58.9999', '838:59:58.99999', '838:59:58.999999'",
            "'-00:00:01', '-00:00:00.1', '-00:00:00.01', '-00:00:00.001', '-00:00:00.0001', '-00:00:00.00001', '-00:00:00.000001'",
            "'00:00:00', '00:00:00.1', '00:00:00.01', '00:00:00.001', '00:00:00.0001', '00:00:00.00001', '00:00:00.000001'",
            "'-24:00:00', '-00:00:01.0', '-00:00:01.5', '-00:01:00.25', '-01:00:00.125', '100:00:00', '-99:59:59.5'",
            "0, 0, 0, 0, 0, 0, 0",
            "NULL, NULL, NULL, NULL, NULL, NULL, NULL",
        ],
    ),
    // Written in Central European time: the hours around both changes of the clock, and the ends of the range.
    case(
        "timestamps",
        "a TIMESTAMP NULL, b TIMESTAMP(1) NULL, c TIMESTAMP(3) NULL, d TIMESTAMP(6) NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6)",
        &[
            "'0000-00-00', 0, 0, 0",
            "'1970-01-01 01:00:01', '1970-01-01 01:00:01.1', '1970-01-01 01:00:01.001', '1970-01-01 01:00:01.000001'",
            "'2038-01-19 04:14:07', '2038-01-19 04:14:07.9', '2038-01-19 04:14:07.999', '2038-01-19 04:14:07.999999'",
            "'2024-03-31 01:59:59', '2024-03-31 03:00:00', '2024-10-27 01:59:59', '2024-10-27 03:00:00'",
            "FROM_UNIXTIME(1729987200), FROM_UNIXTIME(1729990799), FROM_UNIXTIME(1729990800), FROM_UNIXTIME(1729994399.5)",
            "NULL, NULL, NULL, NULL",
        ],
    ),
    case(
        "strings",
        "a CHAR(10), b VARCHAR(300), c VARCHAR(20) CHARACTER SET latin1, d VARCHAR(20) CHARACTER SET utf8mb3, e VARCHAR(20) CHARACTER SET ucs2, \
         f CHAR(20) CHARACTER SET utf16, g VARCHAR(20) COLLATE utf8mb4_bin, h VARCHAR(20) COLLATE utf8mb4_general_ci, i CHAR(255), \
         j VARCHAR(20) CHARACTER SET sjis, k VARCHAR(20) CHARACTER SET cp1251, l CHAR(9) CHARACTER SET ascii, m VARCHAR(9) CHARACTER SET utf32",
        &[
            "'trail  ', 'trail  ', 'déjà', '€', 'žluť', '😀', 'É ', 'e ', REPEAT('😀', 255), 'あソ', 'Привет', 'a  ', '😀'",
            "'', '', '', '', '', '', '', '', '', '', '', '', ''",
            "' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' '",
            "'\\0', 'quote '' \" back \\\\ nul \\0 nl \\n cr \\r z \\Z tab \\t b \\b', '\\\\', '\\'', '\\\\', '\\'', '\\0', '\\Z', '%_', 'ソ\\\\', '`', '~', '\\0'",
            "'é', REPEAT('é', 150), 'É', 'É', 'É', 'É', 'é', 'É', 'a', '表', 'ж', 'b', 'é'",
            "NULL, REPEAT('x', 256), 'ÿ', 'ﬀ', '€', '€', 'ß', 'ss', REPEAT('x', 255), NULL, NULL, NULL, NULL",
        ],
    ),
    case(
        "texts",
        "a TINYTEXT, b TEXT, c MEDIUMTEXT, d LONGTEXT, e TEXT CHARACTER SET latin1, f LONGTEXT CHARACTER SET ucs2",
        &[
            "REPEAT('é', 127), REPEAT('é', 32767), REPEAT('long é ', 20000), REPEAT('😀', 20000), REPEAT('é', 65535), REPEAT('é', 40000)",
            "'', '', '', '', '', ''",
            "'  ', '\\0', '\\n', ' x ', '\\'\\\\', '\\\\'",
            "NULL, NULL, NULL, NULL, NULL, NULL",
        ],
    ),
    case(
        "binaries",
        "a BINARY(1), b BINARY(6), c BINARY(255), d VARBINARY(10), e VARBINARY(300), f CHAR(6) CHARACTER SET binary, g BINARY(0)",
        &[
            "x'00', x'000100', x'', x'0001000000', CONCAT(x'00', REPEAT(x'ff', 299)), x'00', ''",
            "x'', x'', x'00', x'', x'', x'', NULL",
            "x'20', x'200000000020', REPEAT(x'20', 255), x'2020', REPEAT(x'00', 300), x'6120', ''",
            "x'27', x'5c', REPEAT(x'ff', 255), x'5c27', REPEAT(x'27', 256), x'00000000001a', ''",
            "NULL, NULL, NULL, NULL, NULL, NULL, NULL",
        ],
    ),
    case(
        "blobs",
        "a TINYBLOB, b BLOB, c MEDIUMBLOB, d LONGBLOB",
        &[
            "x'00', x'0000', x'00ff00', x'27'",
            "'', '', '', ''",
            "REPEAT(x'00', 255), REPEAT(x'5c', 65535), REPEAT(x'deadbeef00', 50000), REPEAT(x'0d0a', 100000)",
            "NULL, NULL, NULL, NULL",
        ],
    ),
    case(
        "enums",
        "a ENUM('a','','é','it''s','x,y'), b ENUM('1','2','0') CHARACTER SET latin1, c ENUM('a','A') COLLATE utf8mb4_bin, d ENUM('ж','e') CHARACTER SET cp1251",
        &[
            "'a', '1', 'a', 'ж'",
            "'', '2', 'A', 'e'",
            "0, 0, 0, 0",
            "'é', '0', 'a', 'ж'",
            "5, 3, 1, NULL",
            "'it''s', NULL, NULL, 2",
        ],
    ),
    case(
        "sets",
        "a SET('x','y','é',''), b SET('m01','m02','m03','m04','m05','m06','m07','m08','m09','m10','m11','m12','m13','m14','m15','m16','m17','m18','m19',\
         'm20','m21','m22','m23','m24','m25','m26','m27','m28','m29','m30','m31','m32','m33','m34','m35','m36','m37','m38','m39','m40','m41','m42','m43',\
         'm44','m45','m46','m47','m48','m49','m50','m51','m52','m53','m54','m55','m56','m57','m58','m59','m60','m61','m62','m63','m64'), c SET('1','2') CHARACTER SET latin1",
        &[
            "'x,y', 18446744073709551615, '1,2'",
            "'', '', ''",
            "8, 'm64', 1",
            "'é', 'm01,m64', 2",
            "15, 9223372036854775807, NULL",
            "NULL, NULL, 3",
        ],
    ),
    case(
        "json_documents",
        "j JSON",
        &[
            r#"'{"a": [1, 1.0, "1", null, true, false, {"ž": "😀\\n"}], "b": -9007199254740993, "": ""}'"#,
            "'null'",
            "'[]'",
            "'{}'",
            "'1e300'",
            "'\"\"'",
            "'[0.1, 0.30000000000000004, 1.7976931348623157e308, 5e-324, 2.2250738585072014e-308, 1e-7, 0.00001, 123456789012345680.0, 1e22, 1e15, 1e16, 1.5e17]'",
            "'[0, -1, 127, 128, 32767, 32768, -32768, -32769, 65535, 65536, 2147483647, 2147483648, -2147483648, -2147483649, 4294967295, 4294967296]'",
            "'[9223372036854775807, -9223372036854775808, 9223372036854775808, 18446744073709551615]'",
            r#"'["\\\\ \\" \\/ \\b\\f\\n\\r\\t \\u0000\\u001f\\u007f \\u2028 \\ud83d\\ude00 é", "2024-01-01", "base64:type15:AA=="]'"#,
            "CONCAT(REPEAT('[', 30), REPEAT(']', 30))",
            "CONCAT('{\"k\": [', REPEAT('1.5, \"abcdefghij\", {\"x\": 70000}, ', 3000), 'true]}')",
            "CONCAT('[\"', REPEAT('é', 40000), '\"]')",
            "CONCAT('\"', REPEAT('x', 127), '\"')",
            "CONCAT('\"', REPEAT('x', 128), '\"')",
            "CONCAT('{\"', REPEAT('k', 300), '\": {\"', REPEAT('l', 16384), '\": 1}}')",
            "'-0.0'",
            "NULL",
        ],
    ),
    case(
        "spatial",
        "a POINT, b LINESTRING, c POLYGON, d GEOMETRY, e MULTIPOINT, f MULTILINESTRING, g MULTIPOLYGON, h GEOMETRYCOLLECTION",
        &[
            "ST_GeomFromText('POINT(1 2)', 4326), ST_GeomFromText('LINESTRING(0 0, 1 1)'), ST_GeomFromText('POLYGON((0 0, 0 1, 1 1, 0 0))', 4326), \
             ST_GeomFromText('POINT(0.1 -0.2)', 3857), ST_GeomFromText('MULTIPOINT(0 0, 1 1)'), ST_GeomFromText('MULTILINESTRING((0 0, 1 1), (2 2, 3 3))'), \
             ST_GeomFromText('MULTIPOLYGON(((0 0, 0 1, 1 1, 0 0)))'), ST_GeomFromText('GEOMETRYCOLLECTION(POINT(1 1), LINESTRING(0 0, 1 1))', 4326)",
            "ST_GeomFromText('POINT(-179.99999999999997 1e-300)'), NULL, NULL, ST_GeomFromText('GEOMETRYCOLLECTION EMPTY'), NULL, NULL, NULL, NULL",
        ],
    ),
    case(
        "generated",
        "a INT, g1 INT GENERATED ALWAYS AS (a + 1) STORED, b VARCHAR(9), g2 VARCHAR(20) GENERATED ALWAYS AS (CONCAT(b, '!')) VIRTUAL, c INT, KEY (g1)",
        &["1, 'x', 2", "-1, 'é', 3", "NULL, NULL, NULL"],
    ),
    case(
        "defaults",
        "a INT DEFAULT 5, b VARCHAR(40) DEFAULT (UPPER('x')), c DATETIME DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP, d TEXT DEFAULT ('t'), e VARCHAR(9) NOT NULL DEFAULT ''",
        &[
            "NULL, NULL, NULL, NULL, ''",
            "DEFAULT, DEFAULT, DEFAULT, DEFAULT, DEFAULT",
            "0, '', '0000-00-00', '', 'x'",
        ],
    ),
    case(
        "quoted_names",
        "`select` INT, `a``b` VARCHAR(9) COMMENT 'it''s 😀; `x` -- y', `č š` INT, `a,b (c)` INT",
        &["1, 'x', 2, 3", "NULL, '', 0, 0"],
    )
    .with("COMMENT='table 😀 ; it''s'"),
    case("naïve tâble `q`", "a INT", &["1", "2"]),
    case("empty_table", "a INT", &[]),
    case("no_other_columns", "KEY (id)", &[]),
];

/// What only MySQL has, or only there in this form.
pub const MYSQL: &[Case] = &[
    mysql("vectors", "v VECTOR(3), w VECTOR(2048)", &["TO_VECTOR('[1,2.5,-3e-38]'), NULL", "NULL, NULL", "TO_VECTOR('[0,0,0]'), TO_VECTOR(CONCAT('[', REPEAT('0.1,', 2047), '1]'))"])
        .at_home(),
    mysql("collations", "a VARCHAR(20), b VARCHAR(20) COLLATE utf8mb4_0900_as_cs, c VARCHAR(20) COLLATE utf8mb4_ja_0900_as_cs", &["'É ', 'é ', 'か'", "'', '', ''"]),
    // MariaDB stores no negative zero.
    mysql("negative_zero", "a FLOAT, b DOUBLE", &["'-0', '-0'", "0, 0", "NULL, NULL"]).at_home(),
    // MariaDB takes a depth of 32 only.
    mysql("deep_json", "j JSON", &["CONCAT(REPEAT('[', 99), REPEAT(']', 99))", "CONCAT(REPEAT('{\"a\": [', 49), '1.5', REPEAT(']}', 49))"]).at_home(),
    mysql("invisible_columns", "a INT, b INT INVISIBLE, c VARCHAR(9) DEFAULT 'd' INVISIBLE", &["1, 2, 'x'", "NULL, NULL, NULL"]),
    mysql("functional_index", "a VARCHAR(20), j JSON, KEY ((LOWER(a))), KEY ((CAST(j->'$[*]' AS UNSIGNED ARRAY)))", &["'É', '[1, 2]'"]).at_home(),
    mysql("srid_columns", "a POINT NOT NULL SRID 4326, SPATIAL KEY (a)", &["ST_GeomFromText('POINT(1 2)', 4326)"]).at_home(),
    mysql("checked", "a INT CHECK (a > 0), b INT, CONSTRAINT `both` CHECK (b <> a) NOT ENFORCED", &["1, 1", "NULL, 2"]),
    mysql(
        "json_sql_types",
        "j JSON",
        &[
            "JSON_OBJECT('d', CAST('1.10' AS DECIMAL(4,2)), 'same', 1.1e0)",
            "CAST(CAST('1.10' AS DECIMAL(4,2)) AS JSON)",
            "CAST(CAST('-99999999999999999999999999999999999.999999999999999999999999999999' AS DECIMAL(65,30)) AS JSON)",
            "JSON_ARRAY(CAST(5 AS DECIMAL(9,0)), CAST('0.00' AS DECIMAL(3,2)), CAST('123.456' AS DECIMAL(6,3)), 123.456e0, 5)",
            "JSON_ARRAY(DATE'2024-02-29', TIME'-838:59:58.123456', TIMESTAMP'2024-01-02 03:04:05.000001', '2024-02-29', TIME'00:00:00')",
            "CAST(DATE'2024-02-29' AS JSON)",
            "JSON_ARRAY(x'00ff', CAST('ab' AS BINARY(4)), '', x'', 'base64:type15:AP8=')",
            "(SELECT JSON_ARRAY(x.a, x.b, x.c, x.d, x.e) FROM JSON_TABLE('[5, \"2024-01-02 03:04:05.5\", \"ab\"]', '$' COLUMNS (a BIT(16) PATH '$[0]', \
             b TIMESTAMP(6) PATH '$[1]', c BINARY(4) PATH '$[2]', d BLOB PATH '$[2]', e LONGBLOB PATH '$[2]')) x)",
            "(SELECT JSON_ARRAY(x.a, x.b, x.c) FROM JSON_TABLE('[255, \"ab\"]', '$' COLUMNS (a BIT(64) PATH '$[0]', b TINYBLOB PATH '$[1]', c MEDIUMBLOB PATH '$[1]')) x)",
            "JSON_OBJECT('deep', JSON_ARRAY(1, JSON_OBJECT('k\"\\\\', JSON_ARRAY(CAST(1 AS DECIMAL(3,1)), '😀', TRUE, NULL, JSON_OBJECT()))), 'é', DATE'0001-01-01')",
            "JSON_OBJECT('plain', 1.5e0, 'date like', '2024-01-01')",
            "JSON_ARRAY(CAST(JSON_ARRAY(0.1e0, 1e300, -0e0) AS JSON), CAST(0.1 AS DECIMAL(1,1)))",
            "NULL",
        ],
    )
    .at_home(),
];

/// What only MariaDB has, or only there in this form.
pub const MARIADB: &[Case] = &[
    mariadb(
        "addresses",
        "u UUID, i INET6, j INET4",
        &[
            "'01020304-0506-1708-890a-0b0c0d0e0f10', '102:304:506:708:90a:b0c:d0e:f10', '1.2.3.4'",
            "'01020304-0506-4708-890a-0b0c0d0e0f10', '::', '0.0.0.0'",
            "'01020304-0506-7708-890a-0b0c0d000000', '::1:0', '1.0.0.0'",
            "'00000000-0000-0000-0000-000000000000', '::1', '32.32.32.32'",
            "'ffffffff-ffff-ffff-ffff-ffffffffffff', '::ffff:1.2.3.4', '255.255.255.255'",
            "'20202020-2020-2020-2020-202020202020', '2020::2020', '0.0.0.1'",
            "NULL, '1:0:0:2:0:0:0:3', NULL",
            "NULL, 'ff:0:1::', NULL",
        ],
    )
    .at_home(),
    mariadb(
        "collations_there",
        "a VARCHAR(20) COLLATE utf8mb4_uca1400_ai_ci, b VARCHAR(20) COLLATE utf8mb4_nopad_bin, c VARCHAR(20) COLLATE utf8mb4_general_nopad_ci",
        &["'É ', 'é ', 'E'", "'', '', ''"],
    ),
    mariadb(
        "invisible_there",
        "a INT, b INT INVISIBLE, c VARCHAR(9) INVISIBLE DEFAULT 'd'",
        &["1, 2, 'x'", "NULL, NULL, NULL"],
    ),
    mariadb("old_generated", "a INT, g INT AS (a * 2) PERSISTENT, h INT AS (a * 3) VIRTUAL", &["1", "NULL"]),
    mariadb(
        "checked_there",
        "a INT CHECK (a > 0), t LONGTEXT CHECK (JSON_VALID(t)), CONSTRAINT `both` CHECK (a <> 1000)",
        &["1, '{\"a\": 1}'", "NULL, NULL"],
    ),
];

/// Refused by name: what the table is called, how it is made, and what the refusal must say.
pub const REFUSED: &[(Flavor, &str, &str, &[&str])] = &[
    (
        Flavor::MariaDb,
        "squeezed",
        "TABLE squeezed (id INT PRIMARY KEY, a INT, b TEXT COMPRESSED)",
        &["column b of `shop`.`squeezed`", "COMPRESSED"],
    ),
    (Flavor::MariaDb, "numbers", "SEQUENCE numbers", &["`shop`.`numbers` is a SEQUENCE"]),
    (
        Flavor::MariaDb,
        "versions",
        "TABLE versions (id INT PRIMARY KEY) WITH SYSTEM VERSIONING",
        &["`shop`.`versions` is a SYSTEM VERSIONED"],
    ),
    // Its order and its comparisons disagree about texts that another one begins.
    (
        Flavor::MariaDb,
        "unpadded",
        "TABLE unpadded (k CHAR(5) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin PRIMARY KEY)",
        &["`shop`.`unpadded`", "a CHAR with a NOPAD collation", "primary key"],
    ),
    (
        Flavor::MySql,
        "thai",
        "TABLE thai (k CHAR(5) CHARACTER SET tis620 PRIMARY KEY)",
        &["`shop`.`thai`", "a CHAR in the order of Thai", "primary key"],
    ),
    (
        Flavor::MariaDb,
        "years",
        "TABLE years (id INT PRIMARY KEY, y YEAR(2))",
        &["column y of `shop`.`years`", "year(2)"],
    ),
    (Flavor::MySql, "keyless", "TABLE keyless (id INT, a JSON)", &["`shop`.`keyless`", "primary key"]),
];

/// Columns of MySQL that MariaDB lacks, and the other way around, and the column that must be named.
pub const LACKING: [&[(&str, &str)]; 2] = [
    &[
        ("k VARCHAR(20) COLLATE utf8mb4_0900_ai_ci, UNIQUE (k)", "column `k`"),
        ("v VECTOR(3)", "column `v`"),
        ("a INT, g CHAR(9) CHARACTER SET gb18030", "column `g`"),
        ("a VARCHAR(9), KEY low ((LOWER(a)))", "`low`"),
    ],
    &[
        ("a INT, u UUID", "column `u`"),
        ("a INT, i INET6", "column `i`"),
        ("j INET4", "column `j`"),
        ("k VARCHAR(20) COLLATE utf8mb4_uca1400_ai_ci, UNIQUE (k)", "column `k`"),
        ("z TEXT COMPRESSED", "z"),
    ],
];
