//! The embedded proxy, over real sockets and through its HTTP API only.

#![allow(clippy::unwrap_used)]

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use converge_chaos::proxy::client::Toxiproxy;
use converge_chaos::proxy::{Effect, ProxyServer, Stream, Toxic};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(10);

/// A proxy called `db` in front of a server that sends back whatever it gets.
struct World {
    server: ProxyServer,
    proxies: Toxiproxy,
    listen: String,
}

impl World {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((mut peer, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = peer.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        let server = ProxyServer::start("127.0.0.1:0", 7).await.unwrap();
        let proxies = Toxiproxy::connect(&server.url()).await.unwrap();
        let listen = proxies.create("db", "127.0.0.1:0", &upstream).await.unwrap();
        Self { server, proxies, listen }
    }

    async fn connect(&self) -> TcpStream {
        timeout(SOON, TcpStream::connect(&self.listen)).await.unwrap().unwrap()
    }

    async fn poison(&self, stream: Stream, effect: Effect) {
        self.proxies.add_toxic("db", &Toxic::new(stream, effect)).await.unwrap();
    }
}

async fn echo(stream: &mut TcpStream, size: usize) -> std::io::Result<Duration> {
    let bytes: Vec<u8> = (0..size).map(|n| n as u8).collect();
    let mut back = vec![0; size];
    let began = Instant::now();
    let (mut from, mut to) = stream.split();
    let (sent, got) = timeout(SOON, async { tokio::join!(to.write_all(&bytes), from.read_exact(&mut back)) })
        .await
        .map_err(|_| ErrorKind::TimedOut)?;
    sent?;
    got?;
    assert!(back == bytes, "the bytes came back changed");
    Ok(began.elapsed())
}

/// How the connection ends: `Ok(bytes)` at a clean end after that many bytes.
async fn ends(stream: &mut TcpStream) -> std::io::Result<usize> {
    let mut rest = Vec::new();
    timeout(SOON, stream.read_to_end(&mut rest)).await.expect("the connection ends")
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_pass_unchanged_and_a_clean_end_passes_too() {
    let world = World::new().await;
    let mut stream = world.connect().await;
    echo(&mut stream, 3_000_000).await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(ends(&mut stream).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn down_breaks_and_refuses_and_up_lets_through_on_the_same_port() {
    let world = World::new().await;
    let mut stream = world.connect().await;
    echo(&mut stream, 10).await.unwrap();
    for _ in 0..3 {
        world.proxies.disable("db").await.unwrap();
        assert!(matches!(ends(&mut stream).await, Ok(0) | Err(_)));
        let refused = TcpStream::connect(&world.listen).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        world.proxies.enable("db").await.unwrap();
        stream = world.connect().await;
        echo(&mut stream, 10).await.unwrap();
    }
    let listen = world.listen.clone();
    world.server.stop().await;
    assert!(TcpStream::connect(listen).await.is_err());
    assert!(matches!(ends(&mut stream).await, Ok(0) | Err(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn latency_is_at_least_what_was_asked_for_and_goes_away() {
    let world = World::new().await;
    let mut stream = world.connect().await;
    world.poison(Stream::Upstream, Effect::Latency { latency: 120, jitter: 20 }).await;
    world.poison(Stream::Downstream, Effect::Latency { latency: 100, jitter: 0 }).await;
    assert!(echo(&mut stream, 10).await.unwrap() >= Duration::from_millis(200));
    world.proxies.remove_toxics("db").await.unwrap();
    let mut tries = 0;
    while echo(&mut stream, 10).await.unwrap() >= Duration::from_millis(200) {
        tries += 1;
        assert!(tries < 50, "the latency stays");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reset_peer_is_a_real_reset_on_a_live_connection() {
    let world = World::new().await;
    let mut stream = world.connect().await;
    echo(&mut stream, 10).await.unwrap();
    world.poison(Stream::Downstream, Effect::ResetPeer { timeout: 0 }).await;
    assert_eq!(ends(&mut stream).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test(flavor = "multi_thread")]
async fn timeout_swallows_and_closes_or_hangs_for_ever() {
    let world = World::new().await;
    let mut stream = world.connect().await;
    echo(&mut stream, 10).await.unwrap();
    world.poison(Stream::Downstream, Effect::Timeout { timeout: 0 }).await;
    stream.write_all(b"lost").await.unwrap();
    let mut byte = [0];
    assert!(
        timeout(Duration::from_millis(300), stream.read(&mut byte)).await.is_err(),
        "half-open stays open"
    );
    world.poison(Stream::Downstream, Effect::Timeout { timeout: 50 }).await;
    assert!(matches!(ends(&mut stream).await, Ok(0) | Err(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn bandwidth_slicer_and_limit_do_what_they_say() {
    let world = World::new().await;
    world.poison(Stream::Upstream, Effect::Bandwidth { rate: 100 }).await;
    let mut stream = world.connect().await;
    assert!(echo(&mut stream, 30_000).await.unwrap() >= Duration::from_millis(290));
    world.proxies.remove_toxics("db").await.unwrap();

    world
        .poison(Stream::Downstream, Effect::Slicer { average_size: 50, size_variation: 20, delay: 2000 })
        .await;
    // At most 70 bytes a piece makes at least 15 pieces, 2 ms apart.
    assert!(echo(&mut stream, 1000).await.unwrap() >= Duration::from_millis(28));
    world.proxies.remove_toxics("db").await.unwrap();

    world.poison(Stream::Downstream, Effect::LimitData { bytes: 700 }).await;
    let mut stream = world.connect().await;
    stream.write_all(&[1; 1000]).await.unwrap();
    let mut got = Vec::new();
    let _ = timeout(SOON, stream.read_to_end(&mut got)).await.unwrap();
    assert_eq!(got.len(), 700);
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_close_delays_the_end() {
    let world = World::new().await;
    world.poison(Stream::Upstream, Effect::SlowClose { delay: 150 }).await;
    let mut stream = world.connect().await;
    echo(&mut stream, 10).await.unwrap();
    let began = Instant::now();
    stream.shutdown().await.unwrap();
    assert_eq!(ends(&mut stream).await.unwrap(), 0);
    assert!(began.elapsed() >= Duration::from_millis(150));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_an_error_and_reset_restores_all() {
    let world = World::new().await;
    let error = world.proxies.disable("other").await.unwrap_err().to_string();
    assert!(error.contains("other"), "{error}");
    assert!(world.proxies.get("other").await.unwrap_err().to_string().contains("not found"));
    world.poison(Stream::Upstream, Effect::Timeout { timeout: 0 }).await;
    world.proxies.disable("db").await.unwrap();
    world.proxies.reset().await.unwrap();
    let settings = world.proxies.get("db").await.unwrap();
    assert!(settings.enabled && settings.toxics.is_empty());
    echo(&mut world.connect().await, 10).await.unwrap();
}

/// The status and the body of a request, as any client sends it.
async fn post(server: &ProxyServer, path: &str, body: &str) -> String {
    let url = server.url();
    let host = url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(host).await.unwrap();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_toxic_that_cannot_be_is_refused() {
    let world = World::new().await;
    for (body, word) in [
        (r#"{"type":"latency","toxicity":1.5,"attributes":{"latency":1}}"#, "from 0 to 1"),
        (r#"{"type":"latency","toxicity":-0.1,"attributes":{"latency":1}}"#, "from 0 to 1"),
        (r#"{"type":"latency","stream":"sideways","attributes":{"latency":1}}"#, "sideways"),
        (r#"{"type":"latency","attributes":{"latenci":1}}"#, "latenci"),
        (r#"{"type":"timeout","attributes":{"timeout":1,"rate":1}}"#, "rate"),
    ] {
        let answer = post(&world.server, "/proxies/db/toxics", body).await;
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains(word), "{answer}");
    }
    world.poison(Stream::Upstream, Effect::Timeout { timeout: 0 }).await;
    let answer = post(&world.server, "/proxies/db/toxics/timeout_upstream", r#"{"toxicity":2}"#).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    let misspelt = r#"{"attributes":{"timeot":5}}"#;
    let answer = post(&world.server, "/proxies/db/toxics/timeout_upstream", misspelt).await;
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("timeot"), "{answer}");
    assert_eq!(world.proxies.get("db").await.unwrap().toxics[0].toxicity, 1.0);
    let itself = r#"{"name":"x","listen":"127.0.0.1:3307","upstream":"127.0.0.1:3307"}"#;
    assert!(post(&world.server, "/proxies", itself).await.starts_with("HTTP/1.1 400"));
}

#[tokio::test(flavor = "multi_thread")]
async fn toxicity_spares_the_same_connections_for_the_same_seed() {
    let mut spared = Vec::new();
    for _ in 0..2 {
        let world = World::new().await;
        let toxic = Toxic::new(Stream::Downstream, Effect::LimitData { bytes: 1 });
        world.proxies.add_toxic("db", &Toxic { toxicity: 0.5, ..toxic }).await.unwrap();
        let mut answers = Vec::new();
        for _ in 0..24 {
            answers.push(echo(&mut world.connect().await, 10).await.is_ok());
        }
        spared.push(answers);
    }
    assert_eq!(spared[0], spared[1]);
    assert!(spared[0].contains(&true) && spared[0].contains(&false));
}
