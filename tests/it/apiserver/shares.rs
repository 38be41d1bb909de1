//! What one client cannot take from the others.

use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::harness::Cluster;

/// With one place for all requests: half of what somebody sends holds none.
#[tokio::test]
async fn slow_senders_keep_nobody_out() {
    let cluster = Cluster::start_with(|args| args.limits.requests = 1).await;
    let address = cluster.addresses.http.unwrap();
    let mut slow = Vec::new();
    for _ in 0..4 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!(
            "POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nhost: {address}\r\n\
             authorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{{",
            cluster.token
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        slow.push(stream);
        // Told before the next comes, so that this one has been looked at.
        for _ in 0..2 {
            let (code, told) = cluster.get("/api/v1/namespaces/default").await;
            assert_eq!(code, 200, "{told}");
        }
    }
    cluster.create_config_map("a", &json!({})).await;
}
