//! `chaperone agent-key`: a key pair for an agent.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;

use crate::demo::print_line;
use crate::keys::AgentKeyPair;

/// Arguments of `agent-key`.
#[derive(Debug, clap::Args)]
pub(crate) struct AgentKeyArgs {
    /// Name of the key, `kid` in the declaration.
    #[arg(long, default_value = "key-1")]
    kid: String,
    /// Where the private half goes; belongs to the agent alone. Must not exist.
    #[arg(long, value_name = "FILE")]
    private: PathBuf,
}

/// Runs it.
pub(crate) fn run(args: AgentKeyArgs) -> anyhow::Result<ExitCode> {
    let pair = AgentKeyPair::generate(&args.kid)?;
    write_private(&args.private, &pair.private_pem)
        .with_context(|| format!("cannot write `{}`", args.private.display()))?;
    let key = toml::Value::try_from(&pair.public_jwk)?;
    print_line(&format!("keys = [{key}]"));
    eprintln!("Put this line into the agent's declaration in place of `keys = []`.");
    Ok(ExitCode::SUCCESS)
}

/// A new file that only its owner can read.
pub(crate) fn write_private(path: &std::path::Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
