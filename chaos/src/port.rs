//! TCP ports that stay free for one server over all its restarts.

use std::net::TcpListener;

use rand::RngExt;

use crate::error::Error;

/// Below the range from which systems take ports for outgoing connections: while a killed server is down, no
/// connection of anybody can sit on its port.
const RANGE: std::ops::Range<u16> = 12_000..32_000;

/// A port that no other server of this harness on this machine uses while this value lives.
#[derive(Debug)]
pub struct Port {
    number: u16,
    /// A name in the system's abstract socket namespace: a lock that leaves no file and dies with the process.
    #[cfg(target_os = "linux")]
    _lock: std::os::unix::net::UnixListener,
}

impl Port {
    /// Finds a free port.
    pub fn reserve() -> Result<Self, Error> {
        let mut last = None;
        for _ in 0..200 {
            match Self::try_number(rand::rng().random_range(RANGE)) {
                Ok(port) => return Ok(port),
                Err(e) => last = Some(e),
            }
        }
        let source = last.unwrap_or_else(|| std::io::ErrorKind::AddrInUse.into());
        Err(Error::Io { what: "finding a free port on 127.0.0.1".into(), source })
    }

    fn try_number(number: u16) -> std::io::Result<Self> {
        #[cfg(target_os = "linux")]
        let lock = {
            use std::os::linux::net::SocketAddrExt;
            use std::os::unix::net::{SocketAddr, UnixListener};
            let name = format!("converge-port-{number}");
            UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?)?
        };
        TcpListener::bind(("127.0.0.1", number))?;
        Ok(Self {
            number,
            #[cfg(target_os = "linux")]
            _lock: lock,
        })
    }

    /// The port's number.
    pub fn number(&self) -> u16 {
        self.number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserved_or_used_port_is_not_given_twice() {
        let port = Port::reserve().unwrap();
        assert!(RANGE.contains(&port.number()));
        #[cfg(target_os = "linux")]
        assert!(Port::try_number(port.number()).is_err());
        let number = port.number();
        drop(port);
        let _other = TcpListener::bind(("127.0.0.1", number)).unwrap();
        assert!(Port::try_number(number).is_err());
    }
}
