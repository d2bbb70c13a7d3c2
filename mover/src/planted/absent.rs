//! What stands in the place of planted bugs in every build that people use: nothing. Each function here is a constant,
//! and what it guards is compiled away.

use std::borrow::Cow;

use converge_mysql::Position;

use super::Bug;
use crate::change::Change;
use crate::schema::Table;
use crate::value::{Row, Value};

#[inline(always)]
pub(crate) const fn is_planted(_: Bug) -> bool {
    false
}

#[derive(Default)]
pub(crate) struct Missed(());

impl Missed {
    #[inline(always)]
    pub(crate) const fn forgets(&mut self, _: &Change, _: &[usize]) -> [bool; 2] {
        [false; 2]
    }

    #[inline(always)]
    pub(crate) const fn count(&self, _: &[Row], _: &[usize]) {}
}

#[derive(Default)]
pub(crate) struct Returned(());

impl Returned {
    #[inline(always)]
    pub(crate) const fn change(&mut self, _: &Change, _: &Table) {}

    #[inline(always)]
    pub(crate) const fn brings_back(&mut self, _: usize, _: &Table, _: &[Row], _: &[Row]) -> bool {
        false
    }

    #[inline(always)]
    pub(crate) const fn end(&mut self) {}

    #[inline(always)]
    pub(crate) const fn count(&mut self) {}
}

#[inline(always)]
pub(crate) const fn is_active(_: Bug) -> bool {
    false
}

#[inline(always)]
pub(crate) const fn splits(_: usize, _: bool) -> bool {
    false
}

#[inline(always)]
pub(crate) const fn held_back(change: &mut Option<Change>, _: &str) {
    let _ = change;
}

#[inline(always)]
pub(crate) const fn let_go(_: bool) -> Option<Change> {
    None
}

#[inline(always)]
pub(crate) const fn undone() -> Option<[Change; 2]> {
    None
}

#[inline(always)]
pub(crate) async fn stall() {}

#[inline(always)]
pub(crate) const fn every(_: Bug, _: u64) -> bool {
    false
}

#[inline(always)]
pub(crate) const fn first_after_reconnect(_: Bug) -> bool {
    false
}

#[inline(always)]
pub(crate) const fn is_above(_: &[Value], _: &[Value]) -> bool {
    false
}

#[inline(always)]
pub(crate) const fn after_rotation() -> bool {
    false
}

#[inline(always)]
pub(crate) async fn linger(_: Bug) {}

#[inline(always)]
pub(crate) const fn frozen() -> bool {
    false
}

#[inline(always)]
pub(crate) const fn session_begins() {}

#[inline(always)]
pub(crate) const fn rotated() {}

#[inline(always)]
pub(crate) const fn committed() {}

#[inline(always)]
pub(crate) const fn checkpoint_back(_: &Position) -> Option<Position> {
    None
}

#[inline(always)]
pub(crate) const fn stale_table<'a>(
    _: u64,
    schema: Cow<'a, str>,
    name: Cow<'a, str>,
) -> (Cow<'a, str>, Cow<'a, str>) {
    (schema, name)
}
