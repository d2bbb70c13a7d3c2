//! The ways to a server on real servers: encryption in every mode, Unix sockets, passwords from the environment and from
//! option files; and that each way that cannot be had is refused with what to do.

#![allow(clippy::unwrap_used)]

#[path = "support/certificates.rs"]
mod certificates;
#[path = "vdiff/common.rs"]
mod common;
#[path = "support/mover.rs"]
mod mover;
#[path = "support/servers.rs"]
mod support;

use std::process::{Command, Output, Stdio};

use certificates::{Certificates, option_file};
use common::{connect, fresh, run, server, server_with};
use converge_chaos::server::{LocalServer, ServerBinary};
use converge_mysql::{Address, Connector, Error, Flavor};
use mysql_async::prelude::Queryable;

/// The address of `database` with options.
fn with(server: &LocalServer, database: &str, options: &str) -> Address {
    format!("{}?{options}", server.address(database).to_url()).parse().unwrap()
}

/// The cipher of a connection: empty without encryption.
async fn cipher(address: &Address) -> Result<String, Error> {
    let mut conn = Connector::new(address.clone()).connect().await?;
    let row: (String, String) =
        conn.query_first("SHOW SESSION STATUS LIKE 'Ssl_cipher'").await.unwrap().unwrap();
    conn.disconnect().await.unwrap();
    Ok(row.1)
}

async fn encrypted(address: &Address) {
    let found = cipher(address).await.unwrap_or_else(|e| panic!("{address}: {e}"));
    assert!(!found.is_empty(), "{address} is not encrypted");
}

/// The connection must not come about, for want of encryption, with these words.
async fn not_encrypted(address: &Address, words: &[&str]) {
    let error = cipher(address).await.expect_err("no connection");
    assert!(matches!(error, Error::Tls { .. }), "{error:?}");
    for word in words {
        assert!(error.to_string().contains(word), "no {word:?} in: {error}");
    }
    assert!(!error.is_transient(), "nobody has to wait for this: {error}");
}

/// A server whose certificate is for `localhost`, by the authority `ours`.
async fn with_certificate(binary: &ServerBinary, files: &Certificates) -> LocalServer {
    files.authority("ours");
    files.authority("theirs");
    files.issue("ours", "server", "subjectAltName=DNS:localhost");
    files.issue("ours", "client", "subjectAltName=DNS:client");
    let arguments = files.server("ours", "server");
    server_with(binary, &arguments.iter().map(String::as_str).collect::<Vec<_>>()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_mode_checks_what_it_says() {
    for binary in support::servers() {
        let files = Certificates::new();
        let one = with_certificate(&binary, &files).await;
        let (ours, theirs) = (files.url("ours.pem"), files.url("theirs.pem"));
        assert_eq!(cipher(&one.address("")).await.unwrap(), "");
        assert_eq!(cipher(&with(&one, "", "ssl-mode=DISABLED")).await.unwrap(), "");
        encrypted(&with(&one, "", "ssl-mode=PREFERRED")).await;
        encrypted(&with(&one, "", "ssl-mode=REQUIRED")).await;
        // Neither asks who issued the certificate.
        encrypted(&with(&one, "", &format!("ssl-mode=REQUIRED&ssl-ca={theirs}"))).await;

        // The certificate is for localhost; connections go to 127.0.0.1.
        let by_name = |options: &str| with(&one, "", options).with_endpoint("localhost", one.port());
        encrypted(&with(&one, "", &format!("ssl-mode=VERIFY_CA&ssl-ca={ours}"))).await;
        encrypted(&with(&one, "", &format!("ssl-ca={ours}"))).await;
        encrypted(&by_name(&format!("ssl-mode=VERIFY_IDENTITY&ssl-ca={ours}"))).await;
        let other_name = with(&one, "", &format!("ssl-mode=VERIFY_IDENTITY&ssl-ca={ours}"));
        not_encrypted(&other_name, &["not valid for name", "127.0.0.1", "localhost"]).await;
        for mode in ["VERIFY_CA", "VERIFY_IDENTITY"] {
            let other_authority = by_name(&format!("ssl-mode={mode}&ssl-ca={theirs}"));
            not_encrypted(&other_authority, &["certificate", "UnknownIssuer"]).await;
        }

        let missing = with(&one, "", "ssl-ca=no/such.pem");
        not_encrypted(&missing, &["cannot read no/such.pem"]).await;
        let no_pem = with(&one, "", &format!("ssl-ca={}", files.url("server.key")));
        not_encrypted(&no_pem, &["server.key holds no certificate"]).await;
        let torn = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        option_file(&files.path(""), "torn.pem", torn);
        not_encrypted(&with(&one, "", &format!("ssl-ca={}", files.url("torn.pem"))), &["certificate"]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_may_ask_for_encryption_and_for_a_certificate() {
    for binary in support::servers() {
        let files = Certificates::new();
        let one = with_certificate(&binary, &files).await;
        let mut root = connect(&one, "").await;
        run(&mut root, "CREATE USER tls@'127.0.0.1' IDENTIFIED BY 's3cret' REQUIRE SSL").await;
        run(&mut root, "CREATE USER certified@'127.0.0.1' IDENTIFIED BY 's3cret' REQUIRE X509").await;
        let login = |user: &str, options: &str| Address {
            user: user.into(),
            password: "s3cret".into(),
            ..with(&one, "", options)
        };
        let refused = cipher(&login("tls", "ssl-mode=DISABLED")).await.unwrap_err();
        let help = miette::Diagnostic::help(&refused).unwrap().to_string();
        assert!(
            matches!(refused, Error::Denied { .. }) && help.contains("?ssl-mode=REQUIRED"),
            "{refused}: {help}"
        );
        encrypted(&login("tls", "ssl-mode=REQUIRED")).await;
        cipher(&login("certified", "ssl-mode=REQUIRED")).await.unwrap_err();
        let (cert, key) = (files.url("client.pem"), files.url("client.key"));
        encrypted(&login("certified", &format!("ssl-mode=REQUIRED&ssl-cert={cert}&ssl-key={key}"))).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_encryption_is_refused_or_preferred() {
    for binary in support::servers() {
        let extra: &[&str] = match binary.info.flavor {
            Flavor::MySql => &["--tls-version="],
            Flavor::MariaDb => &["--skip-ssl"],
        };
        let one = server_with(&binary, extra).await;
        assert_eq!(cipher(&with(&one, "", "ssl-mode=PREFERRED")).await.unwrap(), "");
        not_encrypted(&with(&one, "", "ssl-mode=REQUIRED"), &["offers no encryption"]).await;
    }
}

fn vdiff(source: &str, target: &str, environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_converge"));
    command.args(["vdiff", "--source", source, "--target", target, "--tables", "t", "--format", "json"]);
    command.envs(environment.iter().copied());
    command.stdin(Stdio::null()).output().unwrap()
}

/// What the answer says, which must be `equal`; neither stream may show the password.
fn equal(output: &Output) -> serde_json::Value {
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(!stdout.contains("s3cret") && !stderr.contains("s3cret"), "{stdout}{stderr}");
    serde_json::from_str(&stdout).unwrap()
}

/// The error of a comparison: exit code 2, the words, what to do, and no password.
fn refused(output: &Output, words: &[&str]) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    for word in words.iter().chain(&["what to do:"]) {
        assert!(error.contains(word), "no {word:?} in: {error}");
    }
    assert!(!error.contains("s3cret"), "{error}");
}

async fn same_table(one: &LocalServer) {
    for database in ["vs", "vt"] {
        let mut conn = fresh(one, database).await;
        run(&mut conn, "CREATE TABLE t (id INT PRIMARY KEY, v INT)").await;
        run(&mut conn, "INSERT INTO t VALUES (1, 1), (2, 2)").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_demands_encryption_says_so() {
    for binary in support::servers() {
        let files = Certificates::new();
        let one = with_certificate(&binary, &files).await;
        same_table(&one).await;
        let mut root = connect(&one, "").await;
        run(&mut root, "SET GLOBAL require_secure_transport = ON").await;
        let url = |database: &str, options: &str| with(&one, database, options).to_url();
        let bare = vdiff(&url("vs", ""), &url("vt", "ssl-mode=REQUIRED"), &[]);
        // MariaDB answers as to a wrong password.
        let word = match binary.info.flavor {
            Flavor::MySql => "nobody in without encryption",
            Flavor::MariaDb => "denied",
        };
        refused(&bare, &["source", word, "?ssl-mode=REQUIRED"]);
        let verified = format!("ssl-mode=VERIFY_CA&ssl-ca={}", files.url("ours.pem"));
        let report = equal(&vdiff(&url("vs", "ssl-mode=REQUIRED"), &url("vt", &verified), &[]));
        let command = report["command"].as_str().unwrap();
        assert!(command.contains(&verified) && command.contains("/vs?ssl-mode=REQUIRED"), "{command}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_is_used_when_it_is_named() {
    for binary in support::servers() {
        let one = server(&binary).await;
        same_table(&one).await;
        let socket = one.directory().join("data/server.sock");
        let options = format!("socket={}", socket.display());
        let host = async |address: Address| {
            let mut conn = Connector::new(address).connect().await.unwrap();
            let sql = "SELECT HOST FROM information_schema.PROCESSLIST WHERE ID = CONNECTION_ID()";
            let host: String = conn.query_first(sql).await.unwrap().unwrap();
            host
        };
        assert_eq!(host(with(&one, "", &options)).await, "localhost");
        assert!(host(one.address("")).await.starts_with("127.0.0.1:"));
        let url = format!("mysql://root@localhost/vs?{options}");
        equal(&vdiff(&url, &with(&one, "vt", &options).to_url(), &[]));
        let gone = vdiff("mysql://root@localhost/vs?socket=/no/such.sock", &url, &[]);
        refused(&gone, &["source", "/no/such.sock", "cannot connect"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_need_not_stand_in_urls() {
    for binary in support::servers() {
        let one = server(&binary).await;
        same_table(&one).await;
        let mut root = connect(&one, "").await;
        run(&mut root, "CREATE USER reader@'127.0.0.1' IDENTIFIED BY 's3cret #1'").await;
        run(&mut root, "GRANT SELECT ON vs.* TO reader@'127.0.0.1'").await;
        run(&mut root, "GRANT SELECT ON vt.* TO reader@'127.0.0.1'").await;
        let port = one.port();
        let variable = format!("mysql://reader@127.0.0.1:{port}/vs?password-env=CONVERGE_TEST_PASSWORD");
        let folder = tempfile::tempdir().unwrap();
        let text = format!("[client]\nuser=reader\npassword=\"s3cret #1\"\nhost=127.0.0.1\nport={port}\n");
        let path = option_file(folder.path(), "my.cnf", &text);
        let file = format!("mysql:///vt?defaults-file={}", path.display());

        let report = equal(&vdiff(&variable, &file, &[("CONVERGE_TEST_PASSWORD", "s3cret #1")]));
        let command = report["command"].as_str().unwrap();
        assert!(command.contains("password-env=CONVERGE_TEST_PASSWORD"), "{command}");
        assert!(command.contains("defaults-file="), "{command}");
        refused(&vdiff(&variable, &file, &[]), &["no variable CONVERGE_TEST_PASSWORD"]);
        let wrong = vdiff(&variable, &file, &[("CONVERGE_TEST_PASSWORD", "s3cret #2")]);
        refused(&wrong, &["source", "reader", "denied"]);
        let nowhere = format!("mysql:///vt?defaults-file={}.x", path.display());
        refused(&vdiff(&file, &nowhere, &[]), &["cannot read", "my.cnf.x"]);

        // Every command reads the same addresses.
        let mut load = Command::new(env!("CARGO_BIN_EXE_converge"));
        load.args(["load", "--url", "mysql://reader@127.0.0.1/x?password-env=CONVERGE_TEST_PASSWORD"]);
        refused(&load.output().unwrap(), &["no variable CONVERGE_TEST_PASSWORD"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_goes_over_encrypted_connections_alone() {
    for binary in support::servers() {
        let files = Certificates::new();
        let (source, target) =
            (with_certificate(&binary, &files).await, support::start(&binary, "target").await);
        let mut conn = fresh(&source, "shop").await;
        run(&mut conn, "CREATE TABLE t (id INT PRIMARY KEY, v INT)").await;
        run(&mut conn, "INSERT INTO t VALUES (1, 1), (2, 2)").await;
        // Each of the mover's connections to the source is refused unless it is encrypted.
        run(&mut conn, "CREATE USER mover@'127.0.0.1' IDENTIFIED BY 's3cret' REQUIRE SSL").await;
        run(&mut conn, "GRANT ALL ON *.* TO mover@'127.0.0.1'").await;
        fresh(&target, "shop").await;
        let text = format!(
            "[client]\nuser=mover\npassword=s3cret\nhost=localhost\nport={}\nssl-mode=VERIFY_IDENTITY\nssl-ca={}\n",
            source.port(),
            files.path("ours.pem").display()
        );
        let path = option_file(&files.path(""), "mover.cnf", &text);
        let url = format!("mysql:///shop?defaults-file={}", path.display());
        let mut mover = mover::Mover::between(&url, &target.address("shop").to_url(), "t");
        mover.start();
        mover.wait_for("replicating");
        run(&mut conn, "INSERT INTO t VALUES (3, 3)").await;
        mover.switch();
        let mut moved = connect(&target, "shop").await;
        let rows: Vec<i32> = moved.query("SELECT id FROM t ORDER BY id").await.unwrap();
        assert_eq!(rows, [1, 2, 3]);
        assert!(!mover.log().contains("s3cret"), "{}", mover.log());
    }
}
