//! `converge proxy` as a process of its own: what its help tells to type breaks real traffic, a rehearsal runs through it,
//! and it leaves nothing behind.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must say so")]

#[path = "support/rehearsal.rs"]
mod rehearsal;
#[path = "support/servers.rs"]
mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use converge_chaos::proxy::client::Toxiproxy;
use converge_chaos::server::{LocalServer, ServerBinary};
use converge_mysql::{Address, Connector};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rehearsal::converge;
use serde_json::Value;

/// Far longer than any fault here lasts.
const BOUND: Duration = Duration::from_secs(20);

/// A running `converge proxy`.
struct Proxy {
    child: Option<Child>,
    /// `HOST:PORT` of the API.
    api: String,
    /// Where the proxy `mysql` listens, if there is one.
    port: Option<u16>,
}

impl Proxy {
    fn start(upstream: Option<u16>) -> Self {
        let mut command = converge();
        command.args(["proxy", "--api", "127.0.0.1:0", "--seed", "7"]);
        if let Some(upstream) = upstream {
            command.args(["--listen", "127.0.0.1:0", "--upstream", &format!("127.0.0.1:{upstream}")]);
        }
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let first = lines.next().expect("the address of the API");
        assert!(first.contains("seed 7"), "{first}");
        let api = first.split_whitespace().nth(1).unwrap().strip_prefix("http://").unwrap().to_owned();
        let port = upstream.map(|_| {
            let line = lines.next().expect("the address of the proxy");
            line.split_whitespace().nth(2).unwrap().rsplit(':').next().unwrap().parse().unwrap()
        });
        Self { child: Some(child), api, port }
    }

    /// One HTTP request: status and body.
    fn http(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.api).unwrap();
        stream.set_read_timeout(Some(BOUND)).unwrap();
        let length = body.len();
        write!(stream, "{method} {path} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// Does what a `curl` line of the help does.
    fn curl(&self, line: &str) {
        let method = line.split("-X ").nth(1).map_or("GET", |rest| rest.split(' ').next().unwrap());
        let path = line.split("http://127.0.0.1:8474").nth(1).unwrap().split(' ').next().unwrap();
        let body = line.split("-d '").nth(1).map_or("", |rest| rest.trim_end_matches('\''));
        let (status, answer) = self.http(method, path, body);
        assert!((200..300).contains(&status), "{line}: {status} {answer}");
    }

    /// Ctrl-C, and how it ends.
    fn interrupt(mut self) -> Output {
        let child = self.child.take().unwrap();
        kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
        child.wait_with_output().unwrap()
    }
}

impl Drop for Proxy {
    /// A test that fails leaves no proxy behind.
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The `curl` lines of the help with these words in them, of which there must be some.
fn taught(words: &str) -> Vec<String> {
    let help = String::from_utf8(converge().args(["proxy", "--help"]).output().unwrap().stdout).unwrap();
    // A narrow terminal breaks lines.
    let joined = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines: Vec<String> = joined
        .split("curl ")
        .skip(1)
        .map(|rest| match rest.find("}'").or(rest.find("}}'")) {
            Some(end) if rest.contains("-d '") && end < rest.find("curl ").unwrap_or(usize::MAX) => {
                let end = rest[end..].find('\'').unwrap() + end;
                format!("curl {}", &rest[..=end])
            }
            _ => format!("curl {}", rest.trim()),
        })
        .filter(|line| line.contains(words))
        .collect();
    assert!(!lines.is_empty(), "the help does not teach {words}: {help}");
    lines
}

/// How long a query takes that fetches so many bytes, or how it fails.
async fn fetch(conn: &mut Conn, bytes: usize) -> Result<Duration, String> {
    let began = Instant::now();
    let query = conn.query_first::<String, _>(format!("SELECT REPEAT('x', {bytes})"));
    let answer = tokio::time::timeout(BOUND, query).await.expect("an answer or an error");
    assert_eq!(answer.map_err(|e| e.to_string())?.unwrap().len(), bytes);
    Ok(began.elapsed())
}

struct Line {
    proxy: Proxy,
    through: Address,
}

impl Line {
    async fn connect(&self) -> Conn {
        let connector = Connector::new(self.through.clone());
        tokio::time::timeout(BOUND, connector.connect()).await.unwrap().unwrap()
    }

    /// Types an example of the help on a live connection, which is fast before, and looks at it; then heals everything.
    async fn with(&self, kind: &str, look: impl AsyncFnOnce(&mut Conn)) {
        let mut conn = self.connect().await;
        quick(&mut conn).await;
        self.proxy.curl(&taught(&format!("\"type\": \"{kind}\""))[0]);
        look(&mut conn).await;
        self.proxy.curl(&taught("/reset")[0]);
        quick(&mut self.connect().await).await;
    }
}

/// Nothing slows this connection; a busy machine may need more than one attempt to show it.
async fn quick(conn: &mut Conn) {
    let give_up = Instant::now() + BOUND;
    while fetch(conn, 30_000).await.unwrap() >= Duration::from_millis(150) {
        assert!(Instant::now() < give_up, "the connection stays slow");
    }
}

async fn slower_than(conn: &mut Conn, milliseconds: u64) {
    let took = fetch(conn, 30_000).await.unwrap();
    assert!(took >= Duration::from_millis(milliseconds), "only {took:?}");
}

/// Every toxic, as the help shows it, bites on real traffic.
async fn bites(server: &LocalServer) {
    let proxy = Proxy::start(Some(server.port()));
    let through = server.address("").with_endpoint("127.0.0.1", proxy.port.unwrap());
    let line = Line { proxy, through };
    line.with("latency", async |conn| slower_than(conn, 250).await).await;
    // 30,000 bytes at 100 kB/s; at least 50 pieces 10 ms apart.
    line.with("bandwidth", async |conn| slower_than(conn, 290).await).await;
    line.with("slicer", async |conn| slower_than(conn, 480).await).await;
    line.with("limit_data", async |conn| {
        fetch(conn, 30_000).await.unwrap_err();
    })
    .await;
    line.with("timeout", async |conn| {
        let began = Instant::now();
        fetch(conn, 10).await.unwrap_err();
        assert!(began.elapsed() >= Duration::from_millis(900), "{:?}", began.elapsed());
    })
    .await;
    line.with("reset_peer", async |conn| {
        let why = fetch(conn, 10).await.unwrap_err();
        assert!(why.contains("reset") || why.contains("closed"), "{why}");
    })
    .await;
    line.with("slow_close", async |_| {
        let mut stream = TcpStream::connect(("127.0.0.1", line.through.port)).unwrap();
        stream.read_exact(&mut [0; 4]).unwrap();
        let began = Instant::now();
        // The server ends a connection whose client has ended its side.
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
        assert!(began.elapsed() >= Duration::from_millis(900), "{:?}", began.elapsed());
    })
    .await;

    let mut conn = line.connect().await;
    line.proxy.curl(&taught("\"enabled\": false")[0]);
    fetch(&mut conn, 10).await.unwrap_err();
    let refused = TcpStream::connect(("127.0.0.1", line.through.port)).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    line.proxy.curl(&taught("\"enabled\": true")[0]);
    line.proxy.curl(&taught("\"latency\"")[0]);
    line.proxy.curl(&taught("-X DELETE")[0]);
    let mut conn = line.connect().await;
    quick(&mut conn).await;

    let (api, port) = (line.proxy.api.clone(), line.through.port);
    let output = line.proxy.interrupt();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stderr).contains("interrupted"));
    fetch(&mut conn, 10).await.unwrap_err();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err() && TcpStream::connect(api).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_help_teaches_breaks_real_traffic() {
    for binary in support::servers() {
        eprintln!("toxics on {}", binary.info);
        bites(&support::start(&binary, "upstream").await).await;
    }
}

const SCENARIO: &str = "
settle_seconds = 0.0
limit_seconds = 240.0
least = { each_kind = 5, during_copy = 10 }
copy = { rows_per_second = 2000, chunk_rows = 500 }
load = { rows = 3000, statements_per_second = 600.0 }
[[fault]]
kind = 'network_reset'
side = 'target'
at_copied = 0.3
hold_seconds = 0.2
[[fault]]
kind = 'network_down'
hold_seconds = 0.5
";

/// A rehearsal whose network is broken in another process, and what that other process still has afterwards.
async fn rehearses(binary: &ServerBinary) {
    let proxy = Proxy::start(None);
    let url = format!("http://{}", proxy.api);
    // Somebody's own, under a name that a rehearsal might take.
    let proxies = Toxiproxy::connect(&url).await.unwrap();
    let own = proxies.create("source", "127.0.0.1:0", "127.0.0.1:9").await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let scenario = directory.path().join("scenario.toml");
    std::fs::write(&scenario, SCENARIO).unwrap();
    let rehearse = |more: &[&str]| {
        let mut command = converge();
        command.arg("rehearse").arg(&scenario).arg("--report").arg(directory.path());
        command.args(["--format", "json", "--seed", "3", "--toxiproxy", &url, "--server"]);
        command.arg(&binary.path).args(more);
        command
    };
    let output = rehearse(&[]).output().unwrap();
    let verdict: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), &verdict["verdict"]), (Some(0), &"converged".into()), "{errors}");
    for fault in verdict["faults"].as_array().unwrap() {
        let observed = fault["observed"].as_str().unwrap();
        assert!(observed.contains("through 127.0.0.1:"), "{fault}");
    }
    assert!(verdict["replay"].as_str().unwrap().contains(&format!("--toxiproxy {url}")), "{verdict}");
    only(&proxy, &own);

    // Given up in its middle it removes its proxies, too.
    let mut given_up: Command = rehearse(&[]);
    let mut child = given_up.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("seeding")), "it ended too soon");
    assert!(proxy.http("GET", "/proxies", "").1.contains("converge-target-"));
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(3));
    only(&proxy, &own);
    assert_eq!(proxy.interrupt().status.code(), Some(0));
}

/// Nothing is left in the proxy server but what was there before, as it was.
fn only(proxy: &Proxy, own: &str) {
    let all: Value = serde_json::from_str(&proxy.http("GET", "/proxies", "").1).unwrap();
    let names: Vec<&String> = all.as_object().unwrap().keys().collect();
    assert_eq!(names, ["source"]);
    assert_eq!((&all["source"]["listen"], &all["source"]["enabled"]), (&own.into(), &true.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rehearsal_runs_through_it() {
    for binary in support::servers() {
        eprintln!("rehearsal on {}", binary.info);
        rehearses(&binary).await;
    }
}

#[test]
fn an_address_that_cannot_be_listened_on_is_explained() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for arguments in [
        vec!["proxy", "--api", &address],
        vec!["proxy", "--api", "127.0.0.1:0", "--listen", &address, "--upstream", "127.0.0.1:9"],
        vec!["proxy", "--api", "nowhere"],
    ] {
        let output = converge().args(&arguments).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{errors}");
        let named = errors.contains(arguments[arguments.len() - 1]) || errors.contains(&address);
        assert!(named && errors.contains("what to do: "), "{errors}");
        assert!(!errors.contains("because: "), "the cause was told already: {errors}");
    }
    let output = converge().args(["proxy", "--listen", "127.0.0.1:0"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--upstream"));
}
