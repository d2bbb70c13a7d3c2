//! Who goes on next: one task at a time is polled, drawn from the seed. Every step that the world takes is a point
//! where another task may come in between.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A part of the world that runs beside the others.
pub type Task<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// Counts steps. Whoever takes one lets the others come in first.
#[derive(Clone, Default)]
pub struct Steps(Rc<Cell<u64>>);

impl Steps {
    /// Steps taken so far.
    pub fn taken(&self) -> u64 {
        self.0.get()
    }

    /// Takes a step.
    pub async fn turn(&self) {
        let mut waited = false;
        poll_fn(|_| {
            // Counted at both ends: what is done next may be what others wait for.
            self.0.set(self.0.get() + 1);
            if std::mem::replace(&mut waited, true) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Waits until `ready` gives something. Only what another task does can make it so.
    pub async fn until<T>(&self, mut ready: impl FnMut() -> Option<T>) -> T {
        poll_fn(|_| ready().map_or(Poll::Pending, Poll::Ready)).await
    }
}

/// Runs tasks side by side until `end` says so, in an order drawn from `seed`.
/// Whenever nobody can go on, `relax` may change something, and says whether it did.
pub async fn run(
    seed: u64,
    steps: &Steps,
    mut tasks: Vec<Task<'_>>,
    mut end: impl FnMut() -> bool,
    relax: impl Fn() -> bool,
) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    poll_fn(|cx| round(&mut random, steps, &mut tasks, &mut end, &relax, cx)).await;
}

fn round(
    random: &mut ChaCha8Rng,
    steps: &Steps,
    tasks: &mut Vec<Task<'_>>,
    end: &mut impl FnMut() -> bool,
    relax: &impl Fn() -> bool,
    cx: &mut Context<'_>,
) -> Poll<()> {
    // Tasks that did nothing since the last step; once all are, only time can go on.
    let mut idle: Vec<usize> = Vec::new();
    loop {
        if end() || tasks.is_empty() {
            return Poll::Ready(());
        }
        let active: Vec<usize> = (0..tasks.len()).filter(|i| !idle.contains(i)).collect();
        if active.is_empty() && relax() {
            idle.clear();
            continue;
        } else if active.is_empty() {
            return Poll::Pending;
        }
        let chosen = active[random.random_range(0..active.len())];
        let before = steps.taken();
        if tasks[chosen].as_mut().poll(cx).is_ready() {
            drop(tasks.swap_remove(chosen));
            idle.clear();
        } else if steps.taken() != before {
            idle.clear();
        } else {
            idle.push(chosen);
        }
    }
}
