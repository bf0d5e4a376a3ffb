//! cvc5 as a process: what `chaperone check --prove` asks.
//!
//! One process answers all questions of a proof; it reads scripts and writes answers, and is given nothing
//! else: no file, no network, no patient. Not here: what is asked (`chaperone_policy::prove`).

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, bail};
use chaperone_policy::prove::{Answer, Solver, SolverFailed};

/// Longest that one question may take, in milliseconds; then it counts as not answered.
const QUESTION_MS_MAX: u32 = 60_000;
/// Longest answer, in bytes.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// What installs the solver.
pub(crate) const INSTALL: &str = "apt-get install -y cvc5";

/// A running cvc5.
pub(crate) struct Cvc5 {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Cvc5 {
    /// Starts it: the given program, or `cvc5` of the path.
    pub(crate) fn start(program: Option<&Path>) -> anyhow::Result<Cvc5> {
        let name = program.map_or(OsStr::new("cvc5"), Path::as_os_str);
        let spawned = Command::new(name)
            .args(["--lang", "smt2", "--quiet"])
            .arg(format!("--tlimit-per={QUESTION_MS_MAX}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) if error.kind() == ErrorKind::NotFound => bail!(
                "the solver `{}` is not there; install it with: {INSTALL}   (or name one with --solver PATH)",
                name.to_string_lossy()
            ),
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("cannot start `{}`", name.to_string_lossy()));
            }
        };
        let (Some(questions), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("cannot talk with `{}`", name.to_string_lossy());
        };
        Ok(Cvc5 {
            child,
            questions,
            answers: BufReader::new(answers),
        })
    }

    fn say(&mut self, text: &str) -> Result<(), SolverFailed> {
        self.questions
            .write_all(text.as_bytes())
            .and_then(|()| self.questions.flush())
            .map_err(|error| SolverFailed(format!("it takes no more questions: {error}")))
    }

    fn line(&mut self) -> Result<String, SolverFailed> {
        let mut line = String::new();
        match self.answers.read_line(&mut line) {
            Ok(0) => Err(SolverFailed(
                "it ended without an answer; is it cvc5?".to_owned(),
            )),
            Ok(_) => Ok(line),
            Err(error) => Err(SolverFailed(format!("its answer cannot be read: {error}"))),
        }
    }

    /// A model: lines between parentheses that stand alone.
    fn model(&mut self) -> Result<String, SolverFailed> {
        let mut model = self.line()?;
        if model.trim() != "(" {
            return Err(SolverFailed(format!("it gave no model: {}", model.trim())));
        }
        while model.len() <= ANSWER_BYTES_MAX {
            let line = self.line()?;
            model.push_str(&line);
            if line.trim() == ")" {
                return Ok(model);
            }
        }
        Err(SolverFailed(format!(
            "its answer is longer than {ANSWER_BYTES_MAX} bytes"
        )))
    }
}

impl Solver for Cvc5 {
    fn decide(&mut self, script: &str) -> Result<Answer, SolverFailed> {
        self.say(script)?;
        self.say("\n(check-sat)\n")?;
        match self.line()?.trim() {
            "unsat" => Ok(Answer::Unsatisfiable),
            "unknown" | "timeout" => Ok(Answer::Unknown),
            "sat" => {
                self.say("(get-model)\n")?;
                self.model().map(|model| Answer::Satisfiable { model })
            }
            other => Err(SolverFailed(format!("it answers `{other}`"))),
        }
    }
}

impl Drop for Cvc5 {
    fn drop(&mut self) {
        // It ends by itself when its input does; waiting for it could hang on one that does not.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
