//! Rows for the copy's side-by-side runs, as text files that `LOAD DATA` reads: the same for the same seed.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::io::AsyncReadExt;

/// Which tables are copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Shape {
    /// Tables like those of sysbench: two integers with an index on the second, two strings.
    Sysbench,
    /// One table of many types, with two indexes and a unique one.
    Mixed,
}

/// A table and a file of its rows.
#[derive(Debug, Clone)]
pub struct TableFile {
    /// Its name.
    pub name: String,
    /// The statement that creates it.
    pub definition: String,
    /// Its rows, fields ended by tabs and rows by newlines.
    pub path: PathBuf,
}

/// Creates the tables and loads their files, one after the other, over one connection.
pub async fn load(conn: &mut Conn, files: &[TableFile]) -> Result<()> {
    conn.query_drop("SET SESSION sql_mode = ''").await?;
    for TableFile { name, definition, path } in files {
        conn.query_drop(definition.as_str()).await?;
        let file = tokio::fs::File::open(path).await?;
        let pieces = futures_util::stream::try_unfold(file, async |mut file| {
            let mut piece = vec![0; 256 << 10];
            let n = file.read(&mut piece).await?;
            piece.truncate(n);
            Ok((n > 0).then(|| (piece.into(), file)))
        });
        conn.set_infile_handler(async move { Ok(Box::pin(pieces) as mysql_async::InfileData) });
        let load = format!("LOAD DATA LOCAL INFILE 'rows' INTO TABLE {name} CHARACTER SET utf8mb4");
        let result = conn.query_iter(load).await?;
        ensure!(result.warnings() == 0, "{name}: {}", result.info());
        result.drop_result().await?;
    }
    Ok(())
}

/// Writes the files of some tables of `rows` rows each.
pub fn write(directory: &Path, shape: Shape, count: u64, rows: u64, seed: u64) -> Result<Vec<TableFile>> {
    let (prefix, count) = match shape {
        Shape::Sysbench => ("sbtest", count),
        Shape::Mixed => ("mixed", 1),
    };
    let table = |number: u64| {
        let name = format!("{prefix}{number}");
        let path = directory.join(format!("{name}.tsv"));
        let mut random = ChaCha8Rng::seed_from_u64(seed.wrapping_mul(1000).wrapping_add(number));
        let mut file = BufWriter::with_capacity(1 << 20, File::create(&path)?);
        for id in 1..=rows {
            match shape {
                Shape::Sysbench => sysbench_row(&mut file, id, rows, &mut random)?,
                Shape::Mixed => mixed_row(&mut file, id, rows, &mut random)?,
            }
        }
        file.flush()?;
        let columns = if shape == Shape::Sysbench { SYSBENCH } else { MIXED };
        Ok(TableFile { definition: format!("CREATE TABLE {name} ({columns})"), name, path })
    };
    (1..=count).map(table).collect()
}

const SYSBENCH: &str = "id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, k INT NOT NULL DEFAULT 0, \
    c CHAR(120) NOT NULL DEFAULT '', pad CHAR(60) NOT NULL DEFAULT '', KEY k_1 (k)";

fn sysbench_row(file: &mut impl Write, id: u64, rows: u64, random: &mut ChaCha8Rng) -> Result<()> {
    write!(file, "{id}\t{}", random.random_range(1..=rows))?;
    for groups in [10, 5] {
        for group in 0..groups {
            let before = if group == 0 { '\t' } else { '-' };
            write!(file, "{before}{:011}", random.random_range(0..100_000_000_000u64))?;
        }
    }
    writeln!(file)?;
    Ok(())
}

const MIXED: &str = "id BIGINT UNSIGNED NOT NULL PRIMARY KEY, customer INT NOT NULL, small TINYINT NOT NULL, \
    state ENUM('new','paid','sent','closed') NOT NULL, flags SET('gift','fast','held') NOT NULL, \
    total DECIMAL(12,2) NOT NULL, rate DOUBLE NOT NULL, weight FLOAT, placed DATETIME(6) NOT NULL, \
    changed TIMESTAMP NULL, due DATE, spent TIME, code CHAR(8) CHARACTER SET latin1, \
    email VARCHAR(80) NOT NULL, name VARCHAR(80) NOT NULL, note TEXT, token VARBINARY(32), doc JSON, \
    KEY (customer), KEY (placed), UNIQUE KEY (email)";

fn mixed_row(file: &mut impl Write, id: u64, rows: u64, random: &mut ChaCha8Rng) -> Result<()> {
    let n = random.random_range(0..1_000_000u64);
    let day = format!("20{:02}-{:02}-{:02}", n % 20 + 10, n % 12 + 1, n % 28 + 1);
    let states = ["new", "paid", "sent", "closed"];
    let flags = ["", "gift", "fast,held", "gift,fast,held"];
    write!(file, "{id}\t{}\t{}\t", random.random_range(0..rows.max(10) / 10), n as i64 % 256 - 128)?;
    write!(
        file,
        "{}\t{}\t{}.{:02}\t",
        states[(n % 4) as usize],
        flags[(n / 4 % 4) as usize],
        n * 7,
        n % 100
    )?;
    // mysqldump writes six digits of a FLOAT: with more, its copies would differ, and the comparison stop.
    write!(file, "{:e}\t{:e}\t", n as f64 / 7.0, (n % 4000) as f32 / 4.0)?;
    write!(file, "{day} {:02}:{:02}:{:02}.{n:06}\t{day} 01:02:03\t{day}\t", n % 24, n % 60, n / 60 % 60)?;
    write!(file, "{:02}:{:02}:00\tC{:06}\t", n % 800, n % 60, n)?;
    write!(file, "person{id}@example.com\tJosé Müller № {n}\t")?;
    match n % 4 {
        0 => write!(file, "\\N\t")?,
        _ => write!(file, "{}\t", "please ring twice; ".repeat((n % 12) as usize))?,
    }
    let token: [u8; 32] = random.random();
    for byte in token {
        match byte & 0x7f {
            special @ (b'\\' | b'\t' | b'\n') => file.write_all(&[b'\\', special])?,
            byte => file.write_all(&[byte])?,
        }
    }
    writeln!(file, "\t{{\"n\": {n}, \"tags\": [\"a\", {}], \"price\": {}.5}}", n % 10, n)?;
    Ok(())
}
