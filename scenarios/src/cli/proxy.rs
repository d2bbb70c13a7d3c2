//! `converge proxy`: the proxy alone, to break the network of anything with.

use converge_chaos::proxy::ProxyServer;

use super::{Failure, Outcome, interrupted};

/// What the proxy that the command line describes is called.
const NAME: &str = "mysql";

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  converge proxy --listen 127.0.0.1:3307 --upstream 127.0.0.1:3306
  mysql -h 127.0.0.1 -P 3307      # goes through the proxy, called `mysql`

The network is broken over HTTP, as with Toxiproxy, whose API this is (its
clients work unchanged). A toxic works on open connections at once; it has a
direction (`stream`: `downstream`, from the server, is the default, or
`upstream`) and goes to the share of connections that `toxicity` says (1.0:
all). Add one of each kind:

  curl -X POST http://127.0.0.1:8474/proxies/mysql/toxics \\
    -d '{\"type\": \"latency\", \"attributes\": {\"latency\": 300, \"jitter\": 50}}'
      everything arrives 300 ms later, give or take 50
  curl -X POST http://127.0.0.1:8474/proxies/mysql/toxics \\
    -d '{\"type\": \"bandwidth\", \"attributes\": {\"rate\": 100}}'
      at most 100 kilobytes a second
  curl -X POST http://127.0.0.1:8474/proxies/mysql/toxics \\
    -d '{\"type\": \"slicer\", \"attributes\": {\"average_size\": 500,
        \"size_variation\": 100, \"delay\": 10000}}'
      pieces of 400 to 600 bytes, 10000 microseconds apart
  curl -X POST http://127.0.0.1:8474/proxies/mysql/toxics \\
    -d '{\"type\": \"limit_data\", \"attributes\": {\"bytes\": 20000}}'
      the connection is closed once 20000 bytes have gone through
  curl -X POST http://127.0.0.1:8474/proxies/mysql/toxics \\
    -d '{\"type\": \"timeout\", \"attributes\": {\"timeout\": 1000}}'
      nothing goes through, and the connection is closed after 1000 ms
      (0: never, as with a pulled cable)
  curl -X POST http://127.0.0.1:8474/proxies/mysql/toxics \\
    -d '{\"type\": \"reset_peer\", \"attributes\": {\"timeout\": 0}}'
      the connection is reset (TCP RST) after 0 ms
  curl -X POST http://127.0.0.1:8474/proxies/mysql/toxics \\
    -d '{\"type\": \"slow_close\", \"attributes\": {\"delay\": 1000}}'
      an end is passed on 1000 ms late

Look at what is there, remove a toxic (by its type and direction, unless it
was given a `name`), take the proxy down (connections are refused, open ones
break) and up again, and heal everything at once:

  curl http://127.0.0.1:8474/proxies
  curl -X DELETE http://127.0.0.1:8474/proxies/mysql/toxics/latency_downstream
  curl -X POST http://127.0.0.1:8474/proxies/mysql -d '{\"enabled\": false}'
  curl -X POST http://127.0.0.1:8474/proxies/mysql -d '{\"enabled\": true}'
  curl -X POST http://127.0.0.1:8474/reset

More proxies can be made, before other servers:

  curl -X POST http://127.0.0.1:8474/proxies \\
    -d '{\"name\": \"other\", \"listen\": \"127.0.0.1:3317\",
        \"upstream\": \"127.0.0.1:3316\"}'

`converge rehearse --toxiproxy http://127.0.0.1:8474` makes its proxies here,
and removes them when it ends. Ctrl-C takes all proxies down and ends with 0.
Nothing here asks who calls: let --api listen on addresses that you trust.")]
pub struct Arguments {
    /// Where the HTTP API listens; port 0: any that is free
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8474")]
    api: String,
    /// Where a proxy called `mysql` listens; port 0: any that is free
    #[arg(long, value_name = "ADDR:PORT", requires = "upstream")]
    listen: Option<String>,
    /// The server that this proxy stands before
    #[arg(long, value_name = "ADDR:PORT", requires = "listen")]
    upstream: Option<String>,
    /// What jitter, sizes of slices and spared connections are drawn from [default: drawn and printed]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

/// Runs the proxy until somebody ends it.
pub async fn run(arguments: Arguments) -> Result<Outcome, Failure> {
    let end = interrupted();
    let seed = arguments.seed.unwrap_or_else(super::drawn_seed);
    if let Some(listen) =
        arguments.listen.as_ref().filter(|listen| Some(*listen) == arguments.upstream.as_ref())
    {
        return Err(Failure::new(format!(
            "the proxy would stand before itself: {listen} is --listen and --upstream"
        ))
        .with_help("give the server's address as --upstream, and a free port as --listen"));
    }
    let server = ProxyServer::start(&arguments.api, seed).await?;
    answer!("API {}   seed {seed}", server.url());
    if let (Some(listen), Some(upstream)) = (&arguments.listen, &arguments.upstream) {
        let listening = server.add(NAME, listen, upstream).await?;
        answer!("proxy {NAME}: {listening} -> {upstream}");
    }
    let signal = end.await;
    server.stop().await;
    note!("{signal}: all proxies are down");
    Ok(Outcome::Good)
}
