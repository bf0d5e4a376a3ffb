//! A cvc5 process for tests: the smallest that answers. The one that ships is the binary's.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use chaperone_policy::prove::{Answer, Solver, SolverFailed};

pub(crate) struct Cvc5 {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Cvc5 {
    /// Starts it; says so and gives nothing where it is not installed.
    pub(crate) fn found() -> Option<Cvc5> {
        let started = Command::new("cvc5")
            .args(["--lang", "smt2", "--quiet", "--tlimit-per=60000"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut child) = started else {
            assert!(
                std::env::var_os("CHAPERONE_TEST_PROOFS").is_none(),
                "cvc5 is missing; install it with: apt-get install -y cvc5"
            );
            println!("skipped: cvc5 is missing; install it with: apt-get install -y cvc5");
            return None;
        };
        let questions = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Some(Cvc5 {
            child,
            questions,
            answers,
        })
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line
    }
}

impl Solver for Cvc5 {
    fn decide(&mut self, script: &str) -> Result<Answer, SolverFailed> {
        let mut say = |text: &str| self.questions.write_all(text.as_bytes()).unwrap();
        say(script);
        say("\n(check-sat)\n");
        self.questions.flush().unwrap();
        match self.line().trim() {
            "unsat" => Ok(Answer::Unsatisfiable),
            "unknown" => Ok(Answer::Unknown),
            "sat" => {
                self.questions.write_all(b"(get-model)\n").unwrap();
                let mut model = self.line();
                loop {
                    let line = self.line();
                    model.push_str(&line);
                    if line.trim() == ")" || line.is_empty() {
                        return Ok(Answer::Satisfiable { model });
                    }
                }
            }
            other => Err(SolverFailed(other.to_owned())),
        }
    }
}

impl Drop for Cvc5 {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
