//! Rehearsals that are broken on purpose: each mutant takes away a part of the harness without which nothing is proven,
//! and the verdict must then be `not proven`, whatever became of the move.
//!
//! A mutant is asked for by [`crate::rehearsal::Options`] alone: no option of `converge rehearse` leads to one.

/// A part of the harness that is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mutant {
    /// The load has no sessions.
    LoadWritesNothing,
    /// The mover reaches both servers past the proxy.
    ProxyBypassed,
    /// Faults of the plan are skipped.
    FaultNotInjected,
    /// Nobody looks whether a fault had an effect.
    FaultNotObserved,
    /// The comparison is given a condition that no row fulfils.
    DiffOfNothing,
    /// The comparison is given no time.
    DiffCutShort,
    /// The target is compared with itself.
    DiffOfItself,
    /// Lost answers are left out of the history.
    HistoryForgetsUnknown,
    /// Every tenth acknowledgement is left out of the history.
    HistoryForgetsSome,
    /// The target's accounts, counters and journal are never read.
    ReadingsMissing,
    /// What the comparison found is left out of the report.
    ReportLosesAnswer,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::LoadWritesNothing,
        Self::ProxyBypassed,
        Self::FaultNotInjected,
        Self::FaultNotObserved,
        Self::DiffOfNothing,
        Self::DiffCutShort,
        Self::DiffOfItself,
        Self::HistoryForgetsUnknown,
        Self::HistoryForgetsSome,
        Self::ReadingsMissing,
        Self::ReportLosesAnswer,
    ];

    /// Its name.
    pub fn id(self) -> &'static str {
        match self {
            Self::LoadWritesNothing => "load_writes_nothing",
            Self::ProxyBypassed => "proxy_bypassed",
            Self::FaultNotInjected => "fault_not_injected",
            Self::FaultNotObserved => "fault_not_observed",
            Self::DiffOfNothing => "diff_of_nothing",
            Self::DiffCutShort => "diff_cut_short",
            Self::DiffOfItself => "diff_of_itself",
            Self::HistoryForgetsUnknown => "history_forgets_unknown",
            Self::HistoryForgetsSome => "history_forgets_some",
            Self::ReadingsMissing => "readings_missing",
            Self::ReportLosesAnswer => "report_loses_answer",
        }
    }

    /// The oracle that must say that it cannot tell.
    pub fn noticed_by(self) -> &'static str {
        match self {
            Self::LoadWritesNothing => "load",
            Self::ProxyBypassed | Self::FaultNotInjected | Self::FaultNotObserved => "faults",
            Self::DiffOfNothing | Self::DiffCutShort | Self::DiffOfItself | Self::ReportLosesAnswer => {
                "vdiff"
            }
            Self::HistoryForgetsUnknown | Self::HistoryForgetsSome => "history",
            Self::ReadingsMissing => "counters",
        }
    }
}
