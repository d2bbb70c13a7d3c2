//! That a comparison goes on where it was, and nothing else does.

use super::*;
use crate::request::{ProofSource, Sample};

fn request() -> Request {
    Request {
        source: vec!["mysql://u:secret@h/a".parse().unwrap()],
        target: vec!["mysql://u@h/b".parse().unwrap()],
        tables: Vec::new(),
        options: Options::default(),
    }
}

fn scope(from: Option<&str>, to: Option<&str>) -> Scope {
    let cut = |key: Option<&str>| key.map(|key| vec![key.to_owned()]);
    Scope { lower: cut(from), upper: cut(to), buckets: None }
}

fn rows(rows: u64) -> Tally {
    let mut tally = Tally { chunks: 1, ..Tally::default() };
    tally.add_equal(rows);
    tally
}

#[test]
fn what_was_compared_is_known_again_and_gaps_are_found() {
    let directory = tempfile::tempdir().unwrap();
    let mut state = State::open(directory.path(), &request(), &[]).unwrap();
    let mut damaged = rows(5);
    let row =
        Differing { key: b"7,".to_vec(), rest: Vec::new(), identity: "i".into(), left: [1, 0], matching: 0 };
    let within = Arc::new(scope(Some("7"), Some("8")));
    damaged.hold(Suspect { row, scope: within, chunk: STRIDE, proof: None }, &Room::of(9));
    for (number, scope, tally) in [
        (4 * STRIDE, scope(Some("40"), Some("50")), rows(10)),
        (0, scope(None, Some("5")), rows(3)),
        (STRIDE, scope(Some("5"), Some("20")), damaged),
    ] {
        state.chunk(1, number, &scope, Engine::Stream, &tally).unwrap();
    }
    drop(state);
    let mut state = State::open(directory.path(), &request(), &[]).unwrap();
    assert!(state.resume(0, &Room::of(9)).is_none());
    let resumed = state.resume(1, &Room::of(9)).unwrap();
    assert_eq!(
        (resumed.engine, resumed.found.matching, resumed.found.suspects.len()),
        (Engine::Stream, 18, 1)
    );
    assert_eq!(*resumed.found.suspects[0].scope, scope(Some("7"), Some("8")));
    assert_eq!(resumed.gaps.len(), 1);
    let (number, gap) = &resumed.gaps[0];
    assert!((STRIDE..4 * STRIDE).contains(number) && *gap == scope(Some("20"), Some("40")));
    assert_eq!(resumed.rest, Some((5 * STRIDE, Some(vec!["50".to_owned()]))));
}

#[test]
fn a_chunk_with_rows_that_were_only_counted_is_compared_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut crowded = rows(5);
    crowded.uncounted.mismatched = 2;
    let parts = [(0, scope(None, Some("5")), &crowded), (STRIDE, scope(Some("5"), Some("9")), &rows(1))];
    let mut state = State::open(directory.path(), &request(), &[]).unwrap();
    for (number, scope, tally) in &parts {
        state.chunk(1, *number, scope, Engine::Stream, tally).unwrap();
    }
    drop(state);
    let mut state = State::open(directory.path(), &request(), &[]).unwrap();
    let resumed = state.resume(1, &Room::of(9)).unwrap();
    assert_eq!((resumed.found.matching, resumed.found.uncounted), (1, Counts::default()));
    assert_eq!(resumed.gaps, [(0, scope(None, Some("5")))]);
    assert_eq!(resumed.rest, Some((2 * STRIDE, Some(vec!["9".to_owned()]))));
    // What came out then counts from then on.
    state.chunk(1, 0, &parts[0].1, Engine::Stream, &rows(7)).unwrap();
    drop(state);
    let mut state = State::open(directory.path(), &request(), &[]).unwrap();
    let resumed = state.resume(1, &Room::of(9)).unwrap();
    assert_eq!((resumed.found.matching, resumed.gaps.len()), (8, 0));
}

#[test]
fn a_begin_that_is_missing_is_a_gap_and_an_end_is_an_end() {
    let directory = tempfile::tempdir().unwrap();
    let mut state = State::open(directory.path(), &request(), &[]).unwrap();
    state.chunk(0, STRIDE, &scope(Some("5"), None), Engine::PushDown, &rows(1)).unwrap();
    drop(state);
    let mut state = State::open(directory.path(), &request(), &[]).unwrap();
    let resumed = state.resume(0, &Room::of(9)).unwrap();
    assert_eq!(resumed.gaps.len(), 1);
    assert_eq!(resumed.gaps[0].1, scope(None, Some("5")));
    assert!(resumed.rest.is_none());
}

#[test]
fn a_state_has_one_owner_and_keeps_the_seed_of_its_sample() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(remembered_seed(directory.path()), None);
    let sample = |text| Sample::parse(text, 7).unwrap();
    let options = Options { sample: Some(sample("1%")), ..Options::default() };
    let sampled = Request { options, ..request() };
    let state = State::open(directory.path(), &sampled, &[]).unwrap();
    assert!(matches!(State::open(directory.path(), &sampled, &[]), Err(Error::StateInUse(_))));
    drop(state);
    assert_eq!(remembered_seed(directory.path()), Some(7));
    drop(State::open(directory.path(), &sampled, &[]).unwrap());
    for other in [Sample { seed: 8, ..sample("1%") }, sample("2%")] {
        let options = Options { sample: Some(other), ..Options::default() };
        let request = Request { options, ..request() };
        assert!(matches!(State::open(directory.path(), &request, &[]), Err(Error::OtherState(_))));
    }
}

#[test]
fn a_torn_last_line_is_forgotten_and_any_other_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(FILE);
    let mut state = State::open(directory.path(), &request(), &[]).unwrap();
    state.chunk(0, 0, &scope(None, Some("5")), Engine::PushDown, &rows(1)).unwrap();
    let whole = std::fs::read(&path).unwrap();
    state.chunk(0, 1, &scope(Some("5"), Some("9")), Engine::PushDown, &rows(1)).unwrap();
    let longer = std::fs::read(&path).unwrap();
    drop(state);
    for cut in whole.len()..longer.len() {
        std::fs::write(&path, &longer[..cut]).unwrap();
        let mut state = State::open(directory.path(), &request(), &[]).unwrap();
        assert_eq!(state.resume(0, &Room::of(9)).unwrap().found.matching, 1);
        assert_eq!(std::fs::read(&path).unwrap(), whole);
    }
    std::fs::write(&path, [b"nonsense\n", whole.as_slice()].concat()).unwrap();
    assert!(State::open(directory.path(), &request(), &[]).is_err());
}

#[test]
fn a_state_for_something_else_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    drop(State::open(directory.path(), &request(), &[]).unwrap());
    let faster = Request {
        options: Options {
            parallel: 9,
            max_duration: Some(Duration::ZERO),
            max_load: vec!["Threads_running=9".parse().unwrap()],
            max_rows_reported: 1,
            confirm_within: Duration::ZERO,
            ..Options::default()
        },
        ..request()
    };
    drop(State::open(directory.path(), &faster, &[]).unwrap());
    let list = || vec!["v".to_owned()];
    for options in [
        Options { ignore_columns: list(), ..Options::default() },
        Options { columns: list(), ..Options::default() },
        Options { rename_columns: vec!["v=w".into()], ..Options::default() },
        Options { filters: vec!["v > 1".parse().unwrap()], ..Options::default() },
        Options { sample: Some(Sample::parse("1%", 1).unwrap()), ..Options::default() },
        Options { proof: ProofSource::Replica, ..Options::default() },
    ] {
        let other = Request { options, ..request() };
        assert!(matches!(State::open(directory.path(), &other, &[]), Err(Error::OtherState(_))), "{other:?}");
    }
    let elsewhere = Request { target: vec!["mysql://u@h/c".parse().unwrap()], ..request() };
    assert!(matches!(State::open(directory.path(), &elsewhere, &[]), Err(Error::OtherState(_))));
    let text = std::fs::read_to_string(directory.path().join(FILE)).unwrap();
    assert!(!text.contains("secret"), "{text}");
}
