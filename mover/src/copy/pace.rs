//! How large the next chunk is: as many bytes as the target writes in about half a second, so that the stream never
//! waits long for a chunk and a chunk's own cost, two marks and a commit, stays small. Nothing here waits.

use std::time::Duration;

use super::LANES;

/// How much is read at once, and how fast.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// Rows of a chunk at the most.
    pub chunk_rows: usize,
    /// Rows a second over all tables; none: as fast as it goes.
    pub rows_per_second: Option<u32>,
}

impl Default for Pace {
    fn default() -> Self {
        Self { chunk_rows: 100_000, rows_per_second: None }
    }
}

impl Pace {
    /// Rows of a table's next chunk of `bytes`, from what a row of it weighs.
    pub(super) fn limit(&self, bytes: usize, row_bytes: usize) -> usize {
        // With a rate, chunks of a fraction of a second keep it even.
        let rate = self.rows_per_second.map_or(usize::MAX, |rate| (rate as usize / 4).max(1));
        (bytes / row_bytes.max(1)).clamp(1, self.chunk_rows.min(rate).max(1))
    }

    /// How long `rows` rows must take at least.
    pub(super) fn time_for(&self, rows: usize) -> Duration {
        self.rows_per_second
            .map_or(Duration::ZERO, |rate| Duration::from_secs_f64(rows as f64 / f64::from(rate.max(1))))
    }
}

/// Bytes of the first chunk.
pub const FIRST: usize = 4 << 20;
/// Bytes of a chunk at the least and at the most.
const BOUNDS: (usize, usize) = (64 << 10, 16 << 20);
/// How long the target should take for a chunk.
const CHUNK_TIME: Duration = Duration::from_millis(500);

/// Bytes of the next chunk after one of `written` bytes, aimed at `size`, took the target `elapsed`.
pub fn next_size(size: usize, written: usize, elapsed: Duration) -> usize {
    let wanted = written as f64 * CHUNK_TIME.as_secs_f64() / elapsed.as_secs_f64().max(1e-6);
    // A chunk that was small for other reasons says little: one step does not go all the way.
    (wanted as usize).clamp(size / 4, size * 4).clamp(BOUNDS.0, BOUNDS.1)
}

/// Rows of the next chunk of a table of which about `left` rows are left: fewer towards the end, so that the last chunks of
/// all lanes end at about the same time (guided self-scheduling: Polychronopoulos and Kuck, 1987), but never less than a
/// quarter, since each chunk has a cost of its own.
pub(super) fn share(limit: usize, left: u64) -> usize {
    match usize::try_from(left).unwrap_or(usize::MAX) / (2 * LANES) {
        // There are more than was thought.
        0 => limit,
        share => share.clamp(limit.div_ceil(4), limit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_get_smaller_towards_the_end_and_have_their_size_beyond_it() {
        let mut left = 100_000;
        let mut sizes = Vec::new();
        while left > 0 {
            sizes.push(share(10_000, left));
            left = left.saturating_sub(share(10_000, left) as u64);
        }
        assert!(sizes.is_sorted_by(|a, b| a >= b), "{sizes:?}");
        assert_eq!((sizes[0], sizes[sizes.len() - 1]), (10_000, 2500));
        assert_eq!((share(10_000, 0), share(1, 1 << 40), share(3, 4)), (10_000, 1, 1));
    }

    #[test]
    fn wide_rows_make_small_chunks() {
        let pace = Pace::default();
        assert_eq!(pace.limit(16 << 20, 100), 100_000);
        assert_eq!(pace.limit(4 << 20, 1 << 20), 4);
        assert_eq!(pace.limit(4 << 20, 64 << 20), 1);
    }

    #[test]
    fn a_rate_is_a_least_time() {
        let pace = Pace { rows_per_second: Some(500), ..Pace::default() };
        assert_eq!(pace.time_for(250), Duration::from_millis(500));
        assert_eq!(pace.limit(16 << 20, 100), 125);
        assert_eq!(Pace::default().time_for(250), Duration::ZERO);
    }

    #[test]
    fn chunks_grow_to_half_a_second_and_shrink_on_a_slow_target() {
        let (mut size, rate) = (FIRST, 20e6);
        let took = |size: usize, rate: f64| Duration::from_secs_f64(size as f64 / rate);
        for _ in 0..10 {
            size = next_size(size, size, took(size, rate));
        }
        assert_eq!(size, 10_000_000);
        assert_eq!(next_size(size, size, Duration::from_secs(60)), size / 4);
        assert_eq!(next_size(16 << 20, 16 << 20, Duration::ZERO), 16 << 20);
        assert_eq!(next_size(64 << 10, 1, Duration::from_secs(60)), 64 << 10);
    }
}
