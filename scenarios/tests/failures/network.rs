//! Connections that are open on one end only: nothing comes, nothing breaks, and the mover notices all the same.

use std::time::{Duration, Instant};

use converge_chaos::proxy::client::Toxiproxy;
use converge_chaos::proxy::{Effect, ProxyServer, Stream, Toxic};
use converge_chaos::server::{LocalServer, ServerBinary};

use crate::mover::Mover;
use crate::sql::{execute, wait_same};
use crate::support;
use crate::world::World;

const DEAD_AFTER: Duration = Duration::from_secs(3);

async fn through(proxies: &Toxiproxy, name: &str, server: &LocalServer) -> String {
    let upstream = format!("127.0.0.1:{}", server.port());
    let listen = proxies.create(name, "127.0.0.1:0", &upstream).await.unwrap();
    let port = listen.rsplit(':').next().unwrap().parse().unwrap();
    server.address("shop").with_endpoint("127.0.0.1", port).to_url()
}

/// Both directions of one side's connections go silent, during the copy and during replication.
async fn silence(binary: &ServerBinary, side: &str, copying: bool) {
    eprintln!("silent {side} on {}, copying: {copying}", binary.info);
    let proxy = ProxyServer::start("127.0.0.1:0", 1).await.unwrap();
    let proxies = Toxiproxy::connect(&proxy.url()).await.unwrap();
    let world = World::new(binary).await;
    world.fill("n", 4096).await;
    let source = through(&proxies, "source", &world.source).await;
    let target = through(&proxies, "target", &world.target).await;
    let bound = format!("{}s", DEAD_AFTER.as_secs());
    let mut mover = Mover::between(&source, &target, "n").with(&["--dead-after", &bound]);
    if copying {
        mover = mover.with(&["--chunk-rows", "50", "--copy-rows-per-second", "400"]);
    }
    mover.start();
    mover.wait_for(if copying { "copying" } else { "replicating" });
    mover.wait_until("a runner", |s| s["running"] == true);
    for stream in [Stream::Upstream, Stream::Downstream] {
        proxies.add_toxic(side, &Toxic::new(stream, Effect::Timeout { timeout: 0 })).await.unwrap();
    }
    let begun = Instant::now();
    let lines = |mover: &Mover| mover.log().matches("trying again").count();
    let before = lines(&mover);
    // What the bound allows, and as much again for a busy machine.
    while lines(&mover) == before {
        assert!(begun.elapsed() < DEAD_AFTER * 2 + Duration::from_secs(2), "not noticed: {}", mover.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    eprintln!("  noticed after {:.1} s", begun.elapsed().as_secs_f64());
    let (mut s, mut t) = world.connections().await;
    execute(&mut s, &["UPDATE n SET x = x + 1"]).await;
    proxies.remove_toxics(side).await.unwrap();
    wait_same(&mut s, &mut t, "n").await;
    assert!(mover.is_running());
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_are_noticed_within_the_bound() {
    for binary in support::servers() {
        for side in ["source", "target"] {
            silence(&binary, side, false).await;
            silence(&binary, side, true).await;
        }
    }
}
