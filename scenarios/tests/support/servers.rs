//! The server kinds that tests on real servers run over. Use it with
//! `#[path = "support/servers.rs"] mod servers;`.

use converge_chaos::server::{LocalServer, ServerBinary, ServerOptions, discover};

/// Every server binary of this machine; a machine without any cannot run these tests.
#[allow(dead_code)]
pub fn servers() -> Vec<ServerBinary> {
    let found = discover().expect("server binaries");
    assert!(!found.is_empty(), "no mysqld or mariadbd on PATH or in CONVERGE_SERVERS");
    found
}

/// Starts a server under a name.
#[allow(dead_code)]
pub async fn start(binary: &ServerBinary, name: &str) -> LocalServer {
    LocalServer::start(binary, ServerOptions::named(name)).await.expect("a server")
}
