//! One direction of one proxied connection: bytes in, toxics, bytes out.

use std::sync::Arc;
use std::time::Duration;

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::toxic::{Effect, Stream, Toxic};

/// The toxics of a proxy, shared with its connections.
pub type Toxics = Arc<Vec<Toxic>>;

/// How a connection is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Not yet.
    Open,
    /// Both sockets are closed.
    Close,
    /// Both sockets are reset.
    Reset,
}

/// Bytes between reading and writing, in chunks: 4 MiB at most.
const QUEUE: usize = 64;
const CHUNK: usize = 64 * 1024;

type Chunk = (Instant, Vec<u8>);

/// One direction.
pub struct Link<'a> {
    pub stream: Stream,
    pub toxics: watch::Receiver<Toxics>,
    pub ending: &'a watch::Sender<Ending>,
    /// Seeds the dice that decide which toxics work on this connection.
    pub chance: u64,
    pub rng: ChaCha8Rng,
    held_since: Option<Instant>,
    passed: u64,
}

impl<'a> Link<'a> {
    /// A link of the `connection`th connection of a proxy.
    pub fn new(
        stream: Stream,
        toxics: watch::Receiver<Toxics>,
        ending: &'a watch::Sender<Ending>,
        seed: u64,
        connection: u64,
    ) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        bytes[8..16].copy_from_slice(&connection.to_le_bytes());
        bytes[16] = stream as u8;
        let mut rng = ChaCha8Rng::from_seed(bytes);
        let chance = rng.next_u64();
        Self { stream, toxics, ending, chance, rng, held_since: None, passed: 0 }
    }

    /// Carries bytes until the source ends or the connection is to end.
    pub async fn run(mut self, from: ReadHalf<'_>, to: WriteHalf<'_>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let ending = self.ending;
        tokio::join!(read(from, sender, ending), self.write(receiver, to));
    }

    fn effects(&mut self) -> Vec<Effect> {
        let toxics = Arc::clone(&self.toxics.borrow_and_update());
        toxics
            .iter()
            .filter(|t| t.stream == self.stream && self.afflicts(t))
            .map(|t| t.effect.clone())
            .collect()
    }

    /// Whether a toxic works on this connection: the same answer each time it is asked.
    fn afflicts(&self, toxic: &Toxic) -> bool {
        if toxic.toxicity >= 1.0 {
            return true;
        }
        // FNV-1a over the name, so that each toxic has its own dice.
        let hash = toxic.name.bytes().fold(0xcbf2_9ce4_8422_2325_u64 ^ self.chance, |h, b| {
            (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
        });
        ChaCha8Rng::seed_from_u64(hash).random::<f32>() < toxic.toxicity
    }

    fn end(&self, ending: Ending) {
        self.ending.send_if_modified(|now| {
            *now == Ending::Open && {
                *now = ending;
                true
            }
        });
    }

    async fn write(&mut self, mut chunks: mpsc::Receiver<Chunk>, mut to: WriteHalf<'_>) {
        let mut source_ended = false;
        loop {
            let effects = self.effects();
            if let Some((after, ending)) = effects.iter().find_map(hold) {
                let due = *self.held_since.get_or_insert_with(Instant::now) + after.unwrap_or_default();
                tokio::select! {
                    () = sleep_until(due), if after.is_some() => return self.end(ending),
                    changed = self.toxics.changed() => if changed.is_err() { return self.end(Ending::Close) },
                    // Swallowed.
                    chunk = chunks.recv(), if !source_ended => source_ended = chunk.is_none(),
                }
                continue;
            }
            if self.held_since.is_some() {
                // Bytes are missing in the middle: the connection is of no use any more.
                return self.end(Ending::Close);
            }
            tokio::select! {
                changed = self.toxics.changed() => if changed.is_err() { return self.end(Ending::Close) },
                chunk = chunks.recv() => match chunk {
                    Some(chunk) => if self.deliver(chunk, &effects, &mut to).await.is_err() {
                        return self.end(Ending::Close);
                    },
                    None => break,
                },
            }
        }
        for effect in self.effects() {
            if let Effect::SlowClose { delay } = effect {
                sleep(Duration::from_millis(delay)).await;
            }
        }
        if to.shutdown().await.is_err() {
            self.end(Ending::Close);
        }
    }

    /// Writes one chunk under the given effects. An error ends the connection.
    async fn deliver(&mut self, chunk: Chunk, effects: &[Effect], to: &mut WriteHalf<'_>) -> Result<(), ()> {
        let (read_at, bytes) = chunk;
        if let Some(delay) = self.latency(effects) {
            sleep_until(read_at + delay).await;
        }
        let limit = effects.iter().find_map(|e| match e {
            Effect::LimitData { bytes } => Some(*bytes),
            _ => None,
        });
        let allowed = limit.map_or(u64::MAX, |limit| limit.saturating_sub(self.passed));
        let rate = effects.iter().find_map(|e| match e {
            Effect::Bandwidth { rate } => Some(*rate),
            _ => None,
        });
        let mut rest = &bytes[..bytes.len().min(usize::try_from(allowed).unwrap_or(usize::MAX))];
        while !rest.is_empty() {
            let (size, pause) = self.slice(effects, rest.len());
            let (piece, more) = rest.split_at(size);
            if let Some(rate) = rate {
                // Bytes per kilobyte per second are milliseconds.
                sleep(Duration::from_micros(piece.len() as u64 * 1000 / rate.max(1))).await;
            }
            to.write_all(piece).await.map_err(drop)?;
            self.passed += piece.len() as u64;
            rest = more;
            if !pause.is_zero() {
                sleep(pause).await;
            }
        }
        if limit.is_some_and(|limit| self.passed >= limit) { Err(()) } else { Ok(()) }
    }

    fn latency(&mut self, effects: &[Effect]) -> Option<Duration> {
        effects.iter().find_map(|e| match e {
            Effect::Latency { latency, jitter } => {
                let varied = (latency + self.rng.random_range(0..=jitter * 2)).saturating_sub(*jitter);
                Some(Duration::from_millis(varied))
            }
            _ => None,
        })
    }

    /// The size of the next piece of `available` bytes, and the pause after it.
    fn slice(&mut self, effects: &[Effect], available: usize) -> (usize, Duration) {
        let found = effects.iter().find_map(|e| match e {
            Effect::Slicer { average_size, size_variation, delay } => {
                Some((*average_size, *size_variation, Duration::from_micros(*delay)))
            }
            _ => None,
        });
        match found {
            Some((average, variation, pause)) => {
                let size =
                    (average + self.rng.random_range(0..=variation * 2)).saturating_sub(variation).max(1);
                (available.min(usize::try_from(size).unwrap_or(usize::MAX)), pause)
            }
            // Under a bandwidth limit small pieces keep the flow even; otherwise all at once.
            None if effects.iter().any(|e| matches!(e, Effect::Bandwidth { .. })) => {
                (available.min(4096), Duration::ZERO)
            }
            None => (available, Duration::ZERO),
        }
    }
}

/// For effects that let nothing through: after how long (`None`: never) the connection ends, and how.
fn hold(effect: &Effect) -> Option<(Option<Duration>, Ending)> {
    match effect {
        Effect::Timeout { timeout } => {
            Some(((*timeout > 0).then(|| Duration::from_millis(*timeout)), Ending::Close))
        }
        Effect::ResetPeer { timeout } => Some((Some(Duration::from_millis(*timeout)), Ending::Reset)),
        _ => None,
    }
}

async fn read(mut from: ReadHalf<'_>, chunks: mpsc::Sender<Chunk>, ending: &watch::Sender<Ending>) {
    let mut buffer = vec![0; CHUNK];
    loop {
        match from.read(&mut buffer).await {
            Ok(0) => return,
            Ok(n) => {
                if chunks.send((Instant::now(), buffer[..n].to_vec())).await.is_err() {
                    return;
                }
            }
            // A reset goes through to the other side.
            Err(_) => {
                ending.send_if_modified(|now| {
                    *now == Ending::Open && {
                        *now = Ending::Reset;
                        true
                    }
                });
                return;
            }
        }
    }
}
