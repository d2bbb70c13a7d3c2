//! The faults of a scenario: what is broken, on which side, when, and for how long.

use std::time::Duration;

use converge_chaos::proxy::{Effect, Stream, Toxic};
use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

/// How long a mover may take to be at work again, and to catch up, after a full disk: servers look for space once a minute.
pub const SPACE: Duration = Duration::from_secs(120);

/// One fault.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// What is done.
    pub kind: FaultKind,
    /// To which server, or on the way to which server, where the kind leaves that open.
    #[serde(default, skip_serializing_if = "Side::is_source")]
    pub side: Side,
    /// In which direction, where the kind is one of a slow, narrow or silent network.
    #[serde(default, skip_serializing_if = "Direction::is_both")]
    pub direction: Direction,
    /// Injected once this share of the rows is copied; absent: once the copy is complete.
    #[serde(default)]
    pub at_copied: Option<f64>,
    /// Seconds until it is undone.
    #[serde(default = "one_second")]
    pub hold_seconds: f64,
}

fn one_second() -> f64 {
    1.0
}

/// One of the two servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The server that rows are moved away from.
    #[default]
    Source,
    /// The server that they are moved to.
    Target,
}

impl Side {
    fn is_source(&self) -> bool {
        *self == Self::Source
    }
}

/// Directions of a connection between the mover and a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From the mover to the server.
    Upstream,
    /// From the server to the mover.
    Downstream,
    /// Both.
    #[default]
    Both,
}

impl Direction {
    fn is_both(&self) -> bool {
        *self == Self::Both
    }

    fn streams(self) -> &'static [Stream] {
        match self {
            Self::Upstream => &[Stream::Upstream],
            Self::Downstream => &[Stream::Downstream],
            Self::Both => &[Stream::Upstream, Stream::Downstream],
        }
    }
}

/// What is broken. A correct mover survives it, but for those that [`FaultKind::is_survivable`] names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// The source is killed with SIGKILL and started again.
    KillSource,
    /// The target is killed with SIGKILL and started again.
    KillTarget,
    /// The mover is killed with SIGKILL and started again.
    KillMover,
    /// A server is shut down cleanly and started again.
    Restart,
    /// A server is stopped in its tracks (SIGSTOP) and goes on.
    Pause,
    /// The mover is stopped in its tracks and goes on.
    PauseMover,
    /// The network between mover and server refuses connections and breaks the open ones.
    NetworkDown,
    /// The classic: the network goes down, the server is restarted behind it, the network comes back.
    NetworkDownRestart,
    /// Everything is late.
    NetworkLatency,
    /// Little goes through.
    NetworkBandwidth,
    /// Data arrives in small pieces.
    NetworkSlices,
    /// Connections are reset.
    NetworkReset,
    /// Connections stay open and nothing goes through: a half-open peer.
    NetworkSilent,
    /// The server's network cable is pulled; it runs in a container.
    Unplug,
    /// All sessions of the mover on a server are killed.
    KillConnections,
    /// Only the mover's reader of the binary log is killed.
    KillLogReader,
    /// The source begins a new binary log file.
    RotateLog,
    /// The source removes the binary log files that the mover has applied.
    PurgeLog,
    /// The target takes no writes.
    ReadOnly,
    /// A table is locked against the mover.
    TableLock,
    /// A server has no connection left for the mover.
    NoConnections,
    /// The target's disk is full; it has a small one of its own.
    DiskFull,
    /// The source's primary is killed for good and its replica takes over.
    Failover,
    /// The source removes binary log files that the mover has not read yet. There is no way on.
    PurgeUnreadLog,
    /// The source is restored from a backup that is older than what the mover has applied. There is no way on.
    RestoreToPast,
}

impl FaultKind {
    /// All of them.
    pub const ALL: [Self; 25] = [
        Self::KillSource,
        Self::KillTarget,
        Self::KillMover,
        Self::Restart,
        Self::Pause,
        Self::PauseMover,
        Self::NetworkDown,
        Self::NetworkDownRestart,
        Self::NetworkLatency,
        Self::NetworkBandwidth,
        Self::NetworkSlices,
        Self::NetworkReset,
        Self::NetworkSilent,
        Self::Unplug,
        Self::KillConnections,
        Self::KillLogReader,
        Self::RotateLog,
        Self::PurgeLog,
        Self::ReadOnly,
        Self::TableLock,
        Self::NoConnections,
        Self::DiskFull,
        Self::Failover,
        Self::PurgeUnreadLog,
        Self::RestoreToPast,
    ];

    /// Those that swarm plans draw from: survivable, and possible on every machine.
    pub fn drawable() -> Vec<Self> {
        let anywhere = |kind: &Self| !matches!(kind, Self::DiskFull | Self::Unplug);
        Self::ALL.into_iter().filter(|kind| kind.is_survivable() && anywhere(kind)).collect()
    }

    /// Whether a correct mover goes on after it. After the others it must stop and say why.
    pub fn is_survivable(self) -> bool {
        !matches!(self, Self::PurgeUnreadLog | Self::RestoreToPast)
    }

    /// As in a scenario and in the history.
    pub fn name(self) -> &'static str {
        match self {
            Self::KillSource => "kill_source",
            Self::KillTarget => "kill_target",
            Self::KillMover => "kill_mover",
            Self::Restart => "restart",
            Self::Pause => "pause",
            Self::PauseMover => "pause_mover",
            Self::NetworkDown => "network_down",
            Self::NetworkDownRestart => "network_down_restart",
            Self::NetworkLatency => "network_latency",
            Self::NetworkBandwidth => "network_bandwidth",
            Self::NetworkSlices => "network_slices",
            Self::NetworkReset => "network_reset",
            Self::NetworkSilent => "network_silent",
            Self::Unplug => "unplug",
            Self::KillConnections => "kill_connections",
            Self::KillLogReader => "kill_log_reader",
            Self::RotateLog => "rotate_log",
            Self::PurgeLog => "purge_log",
            Self::ReadOnly => "read_only",
            Self::TableLock => "table_lock",
            Self::NoConnections => "no_connections",
            Self::DiskFull => "disk_full",
            Self::Failover => "failover",
            Self::PurgeUnreadLog => "purge_unread_log",
            Self::RestoreToPast => "restore_to_past",
        }
    }

    /// Whether it is done to a server's process or files, and not over a connection.
    pub fn needs_host(self) -> bool {
        matches!(
            self,
            Self::KillSource
                | Self::KillTarget
                | Self::Restart
                | Self::Pause
                | Self::Unplug
                | Self::NetworkDownRestart
                | Self::DiskFull
                | Self::Failover
                | Self::RestoreToPast
        )
    }

    /// Whether it is done to files or several servers of this machine, which containers are not.
    pub fn needs_local(self) -> bool {
        matches!(self, Self::DiskFull | Self::Failover | Self::RestoreToPast)
    }

    /// Whether it takes binary logs away that others than the mover may need.
    pub fn destroys_logs(self) -> bool {
        matches!(self, Self::PurgeLog | Self::PurgeUnreadLog)
    }

    /// The side that the kind itself names, if it names one.
    fn fixed_side(self) -> Option<Side> {
        match self {
            Self::KillSource | Self::KillLogReader | Self::RotateLog | Self::PurgeLog => Some(Side::Source),
            Self::PurgeUnreadLog | Self::RestoreToPast | Self::Failover => Some(Side::Source),
            // On the source the load would wait as well.
            Self::KillTarget | Self::ReadOnly | Self::TableLock | Self::DiskFull => Some(Side::Target),
            Self::KillMover | Self::PauseMover => Some(Side::Source),
            _ => None,
        }
    }

    /// What it does to the bytes of one direction, if that is what it does.
    fn effect(self) -> Option<Effect> {
        Some(match self {
            Self::NetworkLatency => Effect::Latency { latency: 150, jitter: 50 },
            Self::NetworkBandwidth => Effect::Bandwidth { rate: 200 },
            Self::NetworkSlices => Effect::Slicer { average_size: 256, size_variation: 64, delay: 1000 },
            Self::NetworkReset => Effect::ResetPeer { timeout: 0 },
            Self::NetworkSilent => Effect::Timeout { timeout: 0 },
            _ => return None,
        })
    }

    fn has_direction(self) -> bool {
        // A reset ends the connection whichever way it is sent.
        self.effect().is_some() && self != Self::NetworkReset
    }
}

impl Fault {
    /// A fault during replication, on the source's side where that is open.
    pub fn new(kind: FaultKind) -> Self {
        Self {
            kind,
            side: Side::default(),
            direction: Direction::default(),
            at_copied: None,
            hold_seconds: one_second(),
        }
    }

    /// The server that it is about.
    pub fn side(&self) -> Side {
        self.kind.fixed_side().unwrap_or(self.side)
    }

    /// As in the history: the kind, and the side unless it is the source's.
    pub fn name(&self) -> String {
        match self.side {
            Side::Source => self.kind.name().into(),
            Side::Target => format!("{} target", self.kind.name()),
        }
    }

    /// What it does to the bytes; nothing if it is no fault of that kind.
    pub fn toxics(&self) -> Vec<Toxic> {
        let streams = match self.kind {
            FaultKind::NetworkReset => &[Stream::Downstream],
            _ => self.direction.streams(),
        };
        let toxics = |effect: Effect| streams.iter().map(|s| Toxic::new(*s, effect.clone())).collect();
        self.kind.effect().map(toxics).unwrap_or_default()
    }

    /// What makes no sense, if anything.
    pub fn check(&self) -> Result<(), String> {
        let name = self.kind.name();
        if self.at_copied.is_some_and(|share| !(0.0..1.0).contains(&share)) {
            return Err(format!("fault {name}: at_copied must be at least 0 and less than 1"));
        }
        if self.kind.fixed_side().is_some() && self.side != Side::default() {
            return Err(format!("fault {name}: takes no side"));
        }
        if self.direction != Direction::Both && !self.kind.has_direction() {
            return Err(format!("fault {name}: takes no direction"));
        }
        Ok(())
    }

    /// A fault of `kind`, the rest drawn.
    pub fn drawn(kind: FaultKind, random: &mut impl Rng) -> Self {
        let mut fault = Self::new(kind);
        if kind.fixed_side().is_none() && random.random_bool(0.5) {
            fault.side = Side::Target;
        }
        if kind.has_direction() {
            let all = [Direction::Upstream, Direction::Downstream, Direction::Both];
            fault.direction = all[random.random_range(0..all.len())];
        }
        if random.random_bool(0.6) {
            fault.at_copied = Some(random.random_range(0.1..0.8));
        }
        fault.hold_seconds = random.random_range(0.2..3.0);
        fault
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_files() {
        for kind in FaultKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
    }

    #[test]
    fn sides_and_directions_are_for_those_that_have_them() {
        let down = Fault { side: Side::Target, ..Fault::new(FaultKind::NetworkDown) };
        assert_eq!((down.check(), down.name().as_str()), (Ok(()), "network_down target"));
        let kill = Fault { side: Side::Target, ..Fault::new(FaultKind::KillSource) };
        assert!(kill.check().unwrap_err().contains("side"));
        let up = Fault { direction: Direction::Upstream, ..Fault::new(FaultKind::NetworkDown) };
        assert!(up.check().unwrap_err().contains("direction"));
        assert_eq!(Fault::new(FaultKind::NetworkSilent).toxics().len(), 2);
        assert_eq!(Fault::new(FaultKind::NetworkReset).toxics().len(), 1);
        assert!(Fault::new(FaultKind::KillMover).toxics().is_empty());
    }
}
