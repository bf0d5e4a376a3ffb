//! The gateway behind a real listener, and peers that go away.

use std::net::SocketAddr;

use chaperone_web::serve::{Bound, Listen};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tower::ServiceExt as _;

use crate::house::*;

async fn ask(address: SocketAddr, request: &str) -> String {
    let mut connection = TcpStream::connect(address).await.unwrap();
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let _ = connection.read_to_string(&mut answer).await;
    answer
}

#[tokio::test]
async fn behind_a_listener_it_answers_as_in_process() {
    let house = House::new().await;
    let bound = Bound::new(Listen::on("127.0.0.1:0".parse().unwrap())).unwrap();
    let address = bound.address();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(bound.serve(house.router.clone(), async {
        let _ = stopped.await;
    }));
    let request = "GET /v1/tools HTTP/1.1\r\nhost: chaperone.example\r\nconnection: close\r\n\r\n";
    let answer = ask(address, request).await;
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    assert!(answer.contains("www-authenticate: Bearer"), "{answer}");
    assert!(answer.contains("x-correlation-id: req_"), "{answer}");
    stop.send(()).unwrap();
    serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_peer_that_hangs_up_does_not_end_its_request() {
    let house = House::new().await;
    let before = house.ledger().await.len();
    let mut asking = Box::pin(house.router.clone().oneshot(bare("GET", None, "/v1/tools")));
    assert!(futures::poll!(&mut asking).is_pending());
    drop(asking);
    // The refusal is recorded all the same, once the request has run to its end.
    for _ in 0..10_000 {
        if house.ledger().await.len() > before {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("the refusal is missing from the ledger");
}
