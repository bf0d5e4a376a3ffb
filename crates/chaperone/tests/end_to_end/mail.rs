//! A mail server that keeps what it is sent.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Everything received so far, envelopes and mails.
#[derive(Clone, Default)]
pub(crate) struct Received(Arc<Mutex<String>>);

impl Received {
    pub(crate) fn text(&self) -> String {
        self.0.lock().unwrap().clone()
    }
}

/// Starts one on a free port; it ends with the test.
pub(crate) async fn start() -> (u16, Received) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let received = Received::default();
    let kept = received.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(talk(stream, kept.clone()));
        }
    });
    (port, received)
}

/// As much of SMTP (RFC 5321) as a client needs that only delivers.
async fn talk(mut stream: TcpStream, kept: Received) -> std::io::Result<()> {
    let (read, mut write) = stream.split();
    let mut lines = BufReader::new(read).lines();
    write.write_all(b"220 test\r\n").await?;
    let mut in_mail = false;
    while let Some(line) = lines.next_line().await? {
        kept.0.lock().unwrap().push_str(&format!("{line}\n"));
        let reply: &[u8] = match (in_mail, line.as_str()) {
            (true, ".") => {
                in_mail = false;
                b"250 kept\r\n"
            }
            (true, _) => continue,
            (false, "DATA") => {
                in_mail = true;
                b"354 go on\r\n"
            }
            (false, "QUIT") => b"221 bye\r\n",
            (false, _) => b"250 ok\r\n",
        };
        write.write_all(reply).await?;
    }
    Ok(())
}
