//! What is refused before anything is begun: files, numbers and databases that would do harm or nothing.

use crate::mover::converge;
use crate::{everything, refused, run};

/// Such a file empties tables of a database that nobody named: nothing of it is sent, and no server is asked or started.
#[test]
fn a_schema_that_reaches_beyond_its_database_is_refused_before_anything_is_begun() {
    let directory = tempfile::tempdir().unwrap();
    let (file, report) = (directory.path().join("dump.sql"), directory.path().join("report"));
    let (path, report) = (file.to_str().unwrap(), report.to_str().unwrap());
    for (sql, statement) in [
        ("USE other;\nDROP TABLE IF EXISTS orders;", "dump.sql:1: "),
        ("CREATE TABLE t (id INT PRIMARY KEY);\nDROP TABLE other.orders;", "DROP TABLE other.orders"),
        ("/*!40000 DROP DATABASE IF EXISTS `other`*/;", "DROP DATABASE IF EXISTS `other`"),
    ] {
        std::fs::write(&file, sql).unwrap();
        let words =
            [path, statement, "reaches beyond", "mysqldump --no-data DATABASE", "without --databases"];
        refused(&["load", "--url", "mysql://root@127.0.0.1:1/shop", "--schema", path], &words);
        let urls = ["--source-url", "mysql://root@127.0.0.1:1/", "--target-url", "mysql://root@127.0.0.1:2/"];
        let rehearse = ["rehearse", "--schema", path, "--report", report];
        refused(&rehearse, &words);
        refused(&[&rehearse[..], &urls].concat(), &words);
    }
    assert!(!std::path::Path::new(report).exists(), "nothing was begun");
}

#[test]
fn numbers_with_which_nothing_happens_are_refused() {
    let address = "mysql://root@127.0.0.1:1/shop";
    let move_run = ["move", "run", "w", "--source", address, "--target", address, "--tables", "t"];
    for (command, word) in [
        (&["load", "--url", address, "--duration", "0s"][..], "--duration"),
        (&["shrink", "somewhere", "--max-duration", "0"], "--max-duration"),
        (&[&move_run[..], &["--chunk-rows", "0"]].concat(), "--chunk-rows"),
        (&[&move_run[..], &["--copy-rows-per-second", "0"]].concat(), "--copy-rows-per-second"),
    ] {
        let output = run(command);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{command:?}");
        assert!(everything(&output).contains(word), "{}", everything(&output));
    }
    refused(
        &["campaign", "--runs", "2", "--seed", "18446744073709551615"],
        &["2 seeds", "the largest seed is"],
    );
    refused(&["proxy", "--listen", "127.0.0.1:3307", "--upstream", "127.0.0.1:3307"], &["before itself"]);
}

/// Databases that are the servers' own, or a mover's, before any server is asked.
#[test]
fn load_keeps_away_from_system_databases() {
    for database in ["mysql", "sys", "information_schema", "performance_schema", "_converge"] {
        let url = format!("mysql://root@127.0.0.1:1/{database}");
        refused(&["load", "--url", &url, "--schema", "existing"], &[database, "not a database for load"]);
    }
}

#[test]
fn an_answer_that_cannot_be_written_is_no_success() {
    for format in ["text", "json"] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut command = converge();
        command.args(["simulate", "--worlds", "5", "--seed", "1", "--format", format]).stdout(full);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{format}: {}", everything(&output));
        assert!(everything(&output).contains("cannot write the answer"), "{}", everything(&output));
    }
}

/// A directory in which another process works.
#[test]
fn a_directory_is_for_one_run_at_a_time() {
    use nix::fcntl::{Flock, FlockArg};
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    let held = std::fs::File::open(path).unwrap();
    let _held = Flock::lock(held, FlockArg::LockExclusiveNonblock).unwrap();
    refused(&["rehearse", "--report", path], &["another run is at work", path, "--report"]);
    refused(
        &["campaign", "--runs", "1", "--directory", path],
        &["another run is at work", path, "--directory"],
    );
    assert_eq!(std::fs::read_dir(path).unwrap().count(), 0);
}
