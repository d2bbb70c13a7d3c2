//! Toxics: what a proxy does to the bytes of one direction, in Toxiproxy's JSON form.

use serde::{Deserialize, Serialize};

/// A direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// From the client to the server.
    Upstream,
    /// From the server to the client.
    #[default]
    Downstream,
}

impl Stream {
    /// The name, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Upstream => "upstream",
            Self::Downstream => "downstream",
        }
    }
}

/// What a toxic does. Times are milliseconds unless said otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "attributes", rename_all = "snake_case", deny_unknown_fields)]
pub enum Effect {
    /// Delays all data by `latency` ± `jitter`.
    Latency {
        /// The delay.
        #[serde(default)]
        latency: u64,
        /// How far it varies, either way.
        #[serde(default)]
        jitter: u64,
    },
    /// Lets at most `rate` kilobytes (1000 bytes) a second through.
    Bandwidth {
        /// Kilobytes a second.
        #[serde(default)]
        rate: u64,
    },
    /// Lets nothing through and closes the connection after `timeout`, or never if that is 0: a dead peer.
    Timeout {
        /// The wait.
        #[serde(default)]
        timeout: u64,
    },
    /// Lets nothing through and resets the connection (TCP RST) on both sides after `timeout`.
    ResetPeer {
        /// The wait.
        #[serde(default)]
        timeout: u64,
    },
    /// Delays the closing of the connection.
    SlowClose {
        /// The delay.
        #[serde(default)]
        delay: u64,
    },
    /// Cuts data into small pieces.
    Slicer {
        /// Bytes per piece, on average.
        #[serde(default)]
        average_size: u64,
        /// How far a piece's size varies, either way.
        #[serde(default)]
        size_variation: u64,
        /// **Microseconds** between pieces.
        #[serde(default)]
        delay: u64,
    },
    /// Closes the connection once `bytes` have gone through.
    LimitData {
        /// The limit.
        #[serde(default)]
        bytes: u64,
    },
}

impl Effect {
    /// The type's name, as in JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Latency { .. } => "latency",
            Self::Bandwidth { .. } => "bandwidth",
            Self::Timeout { .. } => "timeout",
            Self::ResetPeer { .. } => "reset_peer",
            Self::SlowClose { .. } => "slow_close",
            Self::Slicer { .. } => "slicer",
            Self::LimitData { .. } => "limit_data",
        }
    }
}

/// An effect on one direction of a proxy's connections.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Toxic {
    /// Unique in its proxy; `TYPE_STREAM` by default.
    #[serde(default)]
    pub name: String,
    /// The direction.
    #[serde(default)]
    pub stream: Stream,
    /// The share of connections that it works on, 0 to 1.
    #[serde(default = "always")]
    pub toxicity: f32,
    /// What it does.
    #[serde(flatten)]
    pub effect: Effect,
}

fn always() -> f32 {
    1.0
}

impl Toxic {
    /// A toxic on all connections, under the default name.
    pub fn new(stream: Stream, effect: Effect) -> Self {
        Self { name: String::new(), stream, toxicity: always(), effect }.named()
    }

    /// With the default name if it has none.
    pub fn named(mut self) -> Self {
        if self.name.is_empty() {
            self.name = format!("{}_{}", self.effect.name(), self.stream.name());
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_form_is_toxiproxys() {
        let text = r#"{"type":"latency","stream":"upstream","attributes":{"latency":100}}"#;
        let toxic = serde_json::from_str::<Toxic>(text).unwrap().named();
        assert_eq!(toxic, Toxic::new(Stream::Upstream, Effect::Latency { latency: 100, jitter: 0 }));
        let json = serde_json::to_value(&toxic).unwrap();
        assert_eq!(json["name"], "latency_upstream");
        assert_eq!((&json["type"], &json["attributes"]["latency"]), (&"latency".into(), &100.into()));
        assert!(serde_json::from_str::<Toxic>(r#"{"type":"gremlin","attributes":{}}"#).is_err());
    }
}
