//! Native replication between two servers of a test.

use converge_chaos::server::LocalServer;

/// Has `replica` replicate `source` from its first transaction on. Neither may have been written to differently.
pub async fn replicate(source: &LocalServer, replica: &LocalServer) {
    replica.replicate(source).await.unwrap();
}
