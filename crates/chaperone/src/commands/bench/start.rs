//! Time to ready and memory of `serve`: the same program, started as an operator starts it, on SQLite
//! and in front of the sandbox EHR.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::bed::RunningEhr;
use super::disk::{self, now};
use super::figures::{Aim, READY_US, RESIDENT_BYTES, Start, us};
use crate::bundle_files;
use crate::compose::Basics;

/// How often readiness is asked for.
const ASK_EVERY: Duration = Duration::from_millis(2);
/// Longest wait for readiness.
const READY_MAX: Duration = Duration::from_secs(60);
/// Largest answer of `/readyz` that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 16 * 1_024;

/// Starts it twice: the first start makes keys and schema.
pub(super) async fn measure(folder: &Path) -> anyhow::Result<Start> {
    let ehr = RunningEhr::start(&Basics::of_this_machine())?;
    let home = folder.join("serve");
    let address = free_address()?;
    let config = write_config(&home, address, &ehr.base_url)?;
    let (first, mut child) = start(&config, address).await?;
    child.kill().await?;
    let (again, mut child) = start(&config, address).await?;
    let resident_bytes = child.id().and_then(|id| disk::resident_bytes(Some(id)));
    child.kill().await?;
    ehr.stop();
    let (first_us, again_us) = (us(first), us(again));
    Ok(Start {
        first_us,
        again_us,
        ready: Aim::at_most_us(READY_US, first_us.max(again_us)),
        resident: resident_bytes.map(|bytes| Aim::at_most_bytes(RESIDENT_BYTES, bytes)),
        resident_bytes,
    })
}

/// A port that was free a moment ago.
fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

fn write_config(home: &Path, address: SocketAddr, ehr: &str) -> anyhow::Result<PathBuf> {
    for (path, text) in bundle_files::read(None)? {
        let file = home.join("governance").join(path);
        if let Some(parent) = file.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(file, text)?;
    }
    let config = home.join("chaperone.toml");
    let text = format!(
        "tenant = \"bench\"\npublic_url = \"http://{address}\"\n\
         [listen]\naddress = \"{address}\"\n\
         [store]\nurl = \"sqlite:chaperone.db\"\n\
         [keys]\ndir = \"keys\"\n\
         [anchors]\ndir = \"anchors\"\n\
         [ehr]\nconnection = \"sandbox\"\nenvironment = \"sandbox\"\nbase_url = \"{ehr}\"\n"
    );
    std::fs::write(&config, text)?;
    Ok(config)
}

async fn start(config: &Path, address: SocketAddr) -> anyhow::Result<(Duration, Child)> {
    let program = std::env::current_exe().context("this program cannot find itself")?;
    let started = now();
    // What it says is not shown: at its first start that is an escrow text.
    let mut child = Command::new(program)
        .arg("serve")
        .arg("--config")
        .arg(config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("`serve` cannot be started")?;
    while started.elapsed() < READY_MAX {
        if is_ready(address).await {
            return Ok((started.elapsed(), child));
        }
        if let Some(status) = child.try_wait()? {
            bail!("`serve` ended before it was ready: {status}");
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
    bail!("`serve` was not ready within {} s", READY_MAX.as_secs())
}

async fn is_ready(address: SocketAddr) -> bool {
    let asked = async {
        let mut connection = TcpStream::connect(address).await?;
        let request = "GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        connection.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        connection
            .take(ANSWER_BYTES_MAX)
            .read_to_end(&mut answer)
            .await?;
        std::io::Result::Ok(answer.starts_with(b"HTTP/1.1 200 "))
    };
    asked.await.unwrap_or(false)
}
