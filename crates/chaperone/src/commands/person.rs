//! A person at the command line: an account with its password and a fresh code of its app, for what the record must
//! be able to put down to somebody.
//!
//! Both are asked for on the terminal without showing them; where there is none, they are read from standard input,
//! one a line, the password first.

use std::io::{BufRead as _, IsTerminal as _};

use anyhow::{Context as _, bail};
use chaperone_core::digest::Digest;
use chaperone_core::ids::StepUpId;
use chaperone_core::principal::Human;
use chaperone_engine::Engine;
use chaperone_engine::people::{Password, StepUpFor};

/// Longest line read.
const LINE_BYTES_MAX: u64 = 4_096;

/// Signs somebody in and asks for a second factor, bound to what is about to be done.
pub(crate) async fn with_factor(
    engine: &Engine,
    account: &str,
    digest: Digest,
) -> anyhow::Result<(Human, StepUpId)> {
    let password = asked("Password: ")?;
    let attempt = engine.sign_in_begin(account).await?;
    let checked = attempt.check(&Password::typed(password));
    // An administrator's sign-in takes a code as well; the same code cannot serve twice, so theirs is refused here.
    let session = engine.sign_in_finish(checked, None).await.context(
        "signing in failed; administrators, whose sign-in takes a code of its own, use the console",
    )?;
    let outcome = factor(engine, &session.human, digest).await;
    engine.sign_out(&session.token).await?;
    Ok((session.human, outcome?))
}

async fn factor(engine: &Engine, human: &Human, digest: Digest) -> anyhow::Result<StepUpId> {
    let step = engine
        .step_up_begin(human, StepUpFor::Matter, digest)
        .await?;
    let code = asked("Code of your app: ")?;
    engine.step_up_verify(human, step, code.trim()).await?;
    Ok(step)
}

fn asked(what: &str) -> anyhow::Result<String> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        let terminal = console::Term::stderr();
        terminal.write_str(what)?;
        return Ok(terminal.read_secure_line()?);
    }
    let mut line = String::new();
    std::io::Read::take(stdin.lock(), LINE_BYTES_MAX).read_line(&mut line)?;
    let line = line.trim_end_matches(['\r', '\n']).to_owned();
    if line.is_empty() {
        bail!("give the password and then a code of your app, one a line, on standard input");
    }
    Ok(line)
}
