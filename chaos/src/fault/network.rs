//! Faults of the network, made by a proxy: down, slow, narrow, cut into pieces, reset, or silent.
//!
//! A toxic counts as biting only once a connection through the proxy was measured to suffer from it.

use std::time::Duration;

use converge_mysql::{Address, Connector};
use mysql_async::prelude::Queryable;
use tokio::time::Instant;

use super::Record;
use super::probe::{OBSERVE_TIMEOUT, broken, greeted, refused, silent};
use crate::error::Error;
use crate::proxy::client::Toxiproxy;
use crate::proxy::{Effect, Stream, Toxic};

/// Bytes that a probe sends each way, so that a narrow or sliced line takes its time.
const PROBE_BYTES: u64 = 30_000;

/// Takes a proxy down. Returns the evidence: a live connection through it broke, and a new one was refused.
pub async fn proxy_down(record: Record<'_>, proxies: &Toxiproxy, proxy: &str) -> Result<String, Error> {
    let listen = proxies.get(proxy).await?.listen;
    let mut live = greeted(record, &listen).await?;
    record.inject(format!("proxy {proxy} on {listen} goes down"));
    proxies.disable(proxy).await?;
    let broke = broken(&mut live)
        .await
        .ok_or_else(|| record.did_not_bite(format!("a connection through {listen} is still open")))?;
    let refusal = refused(record, &listen).await?;
    Ok(record.observed(format!("a live connection through {listen}: {broke}; a new one: {refusal}")))
}

/// Takes a proxy up again and waits until a server greets through it.
pub async fn proxy_up(record: Record<'_>, proxies: &Toxiproxy, proxy: &str) -> Result<(), Error> {
    let began = Instant::now();
    proxies.enable(proxy).await?;
    greets_again(record, proxies, proxy, began).await
}

/// Adds `toxics` to a proxy. `through` is an account on the server behind it, by the proxy's address. Returns the
/// evidence: what a connection of that account suffered, held against what one before suffered.
pub async fn toxics_on(
    record: Record<'_>,
    proxies: &Toxiproxy,
    proxy: &str,
    through: &Address,
    toxics: &[Toxic],
) -> Result<String, Error> {
    let listen = proxies.get(proxy).await?.listen;
    let before = round_trip(through).await.map_err(|why| {
        record.did_not_bite(format!("nothing goes through {listen}, so that nothing can be slowed: {why}"))
    })?;
    let mut live = greeted(record, &listen).await?;
    let words: Vec<String> = toxics.iter().map(|t| t.name.clone()).collect();
    record.inject(format!("proxy {proxy} on {listen} gets {}", words.join(" and ")));
    for toxic in toxics {
        proxies.add_toxic(proxy, toxic).await?;
    }
    let mut evidence = Vec::new();
    for toxic in toxics {
        evidence.push(match &toxic.effect {
            Effect::ResetPeer { .. } | Effect::LimitData { .. } => broken(&mut live)
                .await
                .map(|how| format!("a live connection through {listen}: {how}"))
                .ok_or_else(|| record.did_not_bite("a live connection is still open"))?,
            Effect::Timeout { .. } => unanswered(record, toxic, &listen, through).await?,
            effect => slowed(record, effect, toxic.stream, before, through).await?,
        });
    }
    Ok(record.observed(evidence.join("; ")))
}

/// Removes all toxics of a proxy and waits until a server greets through it.
pub async fn toxics_off(record: Record<'_>, proxies: &Toxiproxy, proxy: &str) -> Result<(), Error> {
    let began = Instant::now();
    proxies.remove_toxics(proxy).await?;
    greets_again(record, proxies, proxy, began).await
}

async fn greets_again(
    record: Record<'_>,
    proxies: &Toxiproxy,
    proxy: &str,
    began: Instant,
) -> Result<(), Error> {
    let listen = proxies.get(proxy).await?.listen;
    greeted(record, &listen).await?;
    let took = began.elapsed().as_secs_f64();
    record.healed(format!("a server greets through {listen} again, after {took:.2} s"));
    Ok(())
}

/// A peer that says nothing. Silence towards the server is seen only by a client that waits for an answer.
async fn unanswered(
    record: Record<'_>,
    toxic: &Toxic,
    listen: &str,
    through: &Address,
) -> Result<String, Error> {
    if toxic.stream == Stream::Downstream {
        return silent(record, listen).await;
    }
    match tokio::time::timeout(Duration::from_secs(1), round_trip(through)).await {
        Err(_) => Ok(format!("a login through {listen} gets no answer for 1 s")),
        Ok(Err(why)) => Ok(format!("a login through {listen} fails: {why}")),
        Ok(Ok(took)) => Err(record.did_not_bite(format!("a query took only {} ms", took.as_millis()))),
    }
}

/// That a query takes at least most of the time that an effect must cost.
async fn slowed(
    record: Record<'_>,
    effect: &Effect,
    stream: Stream,
    before: Duration,
    through: &Address,
) -> Result<String, Error> {
    let least = before + least_delay(effect);
    let took = match tokio::time::timeout(OBSERVE_TIMEOUT + least, round_trip(through)).await {
        Ok(Ok(took)) => took,
        Ok(Err(why)) => return Ok(format!("a query {} fails: {why}", stream.name())),
        Err(_) => return Ok(format!("a query got no answer for {} s", (OBSERVE_TIMEOUT + least).as_secs())),
    };
    if took < least {
        return Err(record.did_not_bite(format!(
            "with {} a query took {} ms, at least {} ms were expected",
            effect.name(),
            took.as_millis(),
            least.as_millis()
        )));
    }
    Ok(format!(
        "with {} a query took {} ms, {} ms before",
        effect.name(),
        took.as_millis(),
        before.as_millis()
    ))
}

/// Four fifths of what an effect must cost one probe, to be on the safe side.
fn least_delay(effect: &Effect) -> Duration {
    let full = match effect {
        Effect::Latency { latency, jitter } => Duration::from_millis(latency.saturating_sub(*jitter)),
        Effect::Bandwidth { rate } => Duration::from_millis(PROBE_BYTES / (*rate).max(1)),
        Effect::Slicer { average_size, size_variation, delay } => {
            let pieces = PROBE_BYTES / (average_size + size_variation).max(1);
            Duration::from_micros(pieces.saturating_sub(1) * delay)
        }
        _ => Duration::ZERO,
    };
    full.mul_f64(0.8)
}

/// How long it takes to log in and send and receive [`PROBE_BYTES`].
async fn round_trip(through: &Address) -> Result<Duration, String> {
    let began = Instant::now();
    let mut conn = Connector::new(through.clone()).connect().await.map_err(|e| e.to_string())?;
    let query = format!("SELECT '{}'", "x".repeat(PROBE_BYTES as usize));
    let answer: Option<String> = conn.query_first(query).await.map_err(|e| e.to_string())?;
    let took = began.elapsed();
    converge_mysql::connect::close(conn).await;
    match answer.map(|a| a.len() as u64) {
        Some(PROBE_BYTES) => Ok(took),
        other => Err(format!("{other:?} bytes came back")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_effect_must_cost() {
        let cost = |effect| least_delay(&effect).as_millis();
        assert_eq!(cost(Effect::Latency { latency: 300, jitter: 100 }), 160);
        assert_eq!(cost(Effect::Bandwidth { rate: 30 }), 800);
        assert_eq!(cost(Effect::Slicer { average_size: 80, size_variation: 20, delay: 1000 }), 239);
        assert_eq!(cost(Effect::LimitData { bytes: 1 }), 0);
    }
}
