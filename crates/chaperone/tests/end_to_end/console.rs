//! A person at the console, without a browser: forms, a cookie, an authenticator.

use std::time::Duration;

use chaperone_engine::people::totp;
use jiff::{SignedDuration, Timestamp};

use crate::wire::{Answer, Whom, Wire};

const PASSWORD: &str = "a calm grey morning";
/// How long a code is that of now, in seconds.
const STEP_S: i64 = 30;
/// How much of that must be left for a code of the step before, which counts no longer once it is over.
const LEFT_S_MIN: i64 = 10;

/// Signed in, with a second factor.
pub(crate) struct Person<'a> {
    wire: &'a Wire,
    cookie: String,
    csrf: String,
    secret: [u8; totp::SECRET_BYTES],
}

impl<'a> Person<'a> {
    pub(crate) const PASSWORD: &'static str = PASSWORD;

    /// A code of the app now; it counts once.
    pub(crate) fn code(&self) -> String {
        totp::code_at(self.secret, Timestamp::now())
    }

    /// The code after that, which a clock that is a little ahead gives already.
    pub(crate) fn next_code(&self) -> String {
        let ahead = Timestamp::now() + SignedDuration::from_secs(STEP_S);
        totp::code_at(self.secret, ahead)
    }

    /// The first account, with the code from the server's log.
    pub(crate) async fn set_up(wire: &'a Wire, log: &str, roles: &[&str]) -> Self {
        let (_, rest) = log
            .split_once("with this code: ")
            .expect("no code in the log");
        let code = rest.lines().next().unwrap().trim();
        let mut form = vec![
            ("code", code),
            ("account", "dr-lee"),
            ("password", PASSWORD),
            ("password_again", PASSWORD),
        ];
        form.extend(roles.iter().map(|role| ("roles", *role)));
        let request = wire.http.post(wire.url("/console/set-up")).form(&form);
        let answer = wire.send(Whom::Person, request).await;
        Self::enrol(wire, &answer).await
    }

    /// Makes an account for somebody else, who signs in.
    pub(crate) async fn invite(&self, account: &str, roles: &[&str]) -> Person<'a> {
        let mut form = vec![("account", account)];
        form.extend(roles.iter().map(|role| ("roles", *role)));
        let page = self.post(Whom::Person, "/console/people", &form).await;
        let code = find_code(&page.body);
        let form = [
            ("code", code.as_str()),
            ("account", account),
            ("password", PASSWORD),
            ("password_again", PASSWORD),
        ];
        let request = self
            .wire
            .http
            .post(self.wire.url("/console/enrol"))
            .form(&form);
        let answer = self.wire.send(Whom::Person, request).await;
        Self::enrol(self.wire, &answer).await
    }

    async fn enrol(wire: &'a Wire, signed_in: &Answer) -> Person<'a> {
        assert_eq!(
            signed_in.header("location"),
            "/console/second-factor",
            "{}",
            signed_in.body
        );
        let cookie = signed_in
            .header("set-cookie")
            .split(';')
            .next()
            .unwrap()
            .to_owned();
        let mut person = Self {
            wire,
            cookie,
            csrf: String::new(),
            secret: [0; totp::SECRET_BYTES],
        };
        let page = person.get(Whom::Person, "/console/second-factor").await;
        person.csrf = page.after("name=\"csrf\" value=\"").unwrap().to_owned();
        let secret = page.body.split("id=\"secret\">").nth(1).unwrap();
        let secret = secret.split('<').next().unwrap().replace(' ', "");
        person.secret = base32(&secret);
        // The code of the step before: the present one stays free. It counts until the present step is over, so
        // near its end the next one is waited for.
        let left_s = STEP_S - Timestamp::now().as_second() % STEP_S;
        if left_s <= LEFT_S_MIN {
            let next = u64::try_from(left_s).unwrap();
            tokio::time::sleep(Duration::from_secs(next)).await;
        }
        let before = Timestamp::now() - SignedDuration::from_secs(STEP_S);
        let code = totp::code_at(person.secret, before);
        let done = person
            .post(Whom::Person, "/console/second-factor", &[("code", &code)])
            .await;
        assert_eq!(
            done.header("location"),
            "/console?done=enrolled",
            "{}",
            done.body
        );
        let page = person.get(Whom::Person, "/console/health").await;
        person.csrf = page.after("name=\"csrf\" value=\"").unwrap().to_owned();
        person
    }

    pub(crate) async fn get(&self, whom: Whom, path: &str) -> Answer {
        let request = self.wire.http.get(self.wire.url(path));
        self.wire
            .send(whom, request.header("cookie", &self.cookie))
            .await
    }

    /// Submits a form of this session.
    pub(crate) async fn post(&self, whom: Whom, path: &str, form: &[(&str, &str)]) -> Answer {
        let mut form = form.to_vec();
        form.push(("csrf", &self.csrf));
        let request = self.wire.http.post(self.wire.url(path)).form(&form);
        self.wire
            .send(whom, request.header("cookie", &self.cookie))
            .await
    }

    /// Finds a patient and puts them before an agent: the grant.
    pub(crate) async fn assign(&self, query: &str, agent: &str, intent: &str) -> String {
        let hits = self
            .post(
                Whom::Clinician,
                "/console/assign/search",
                &[("query", query)],
            )
            .await;
        let patient = hits
            .after("name=\"patient\" value=\"")
            .unwrap_or_else(|| panic!("nobody matches: {}", hits.body));
        let pair = format!("{agent}/{intent}");
        let form = [
            ("pair", pair.as_str()),
            ("patient", patient),
            ("presence", "yes"),
        ];
        let page = self.post(Whom::Clinician, "/console/assign", &form).await;
        let (_, rest) = page
            .body
            .split_once("Grant <code>")
            .unwrap_or_else(|| panic!("{}", page.body));
        rest.split('<').next().unwrap().to_owned()
    }

    /// Approves, with a wrong code and then the right one where a code is asked for.
    pub(crate) async fn approve(&self, writeback: &str) -> Answer {
        let review = format!("/console/writebacks/{writeback}");
        let page = self.get(Whom::Clinician, &review).await;
        let digest = page
            .after("name=\"digest\" value=\"")
            .unwrap_or_else(|| panic!("nothing to approve: {}", page.body));
        // Only a change that a rule warns of asks for it.
        let over = match page.body.contains("name=\"override\"") {
            true => "looked-up",
            false => "",
        };
        let form = [("digest", digest), ("opened", "0"), ("override", over)];
        let asked = self.once_read(&format!("{review}/approve"), &form).await;
        let to = asked.header("location").to_owned();
        if !to.contains("/step-up/") {
            return asked;
        }
        self.get(Whom::Clinician, &to).await;
        let step = to.split('?').next().unwrap();
        let form = |code| [("code", code), ("opened", "0"), ("override", over)];
        self.post(Whom::Clinician, step, &form("000000")).await;
        let code = totp::code_at(self.secret, Timestamp::now());
        self.post(Whom::Clinician, step, &form(&code)).await
    }

    /// Rejects with a reason.
    pub(crate) async fn reject(&self, writeback: &str, reason: &str) -> Answer {
        let review = format!("/console/writebacks/{writeback}");
        let page = self.get(Whom::Clinician, &review).await;
        let digest = page
            .after("name=\"digest\" value=\"")
            .unwrap_or_else(|| panic!("nothing to reject: {}", page.body));
        let form = [("digest", digest), ("reason", reason), ("opened", "0")];
        self.once_read(&format!("{review}/reject"), &form).await
    }

    /// Sends a decision again until the change has been on the screen long enough.
    async fn once_read(&self, path: &str, form: &[(&str, &str)]) -> Answer {
        for _ in 0..100 {
            let answer = self.post(Whom::Clinician, path, form).await;
            if !answer.body.contains("once it has been before you") {
                return answer;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        panic!("{path} is never read long enough")
    }
}

/// An enrolment code as it is shown: four groups of four.
fn find_code(page: &str) -> String {
    page.split(['<', '>', ' ', '"', '\n'])
        .find(|word| {
            let groups: Vec<&str> = word.split('-').collect();
            let is_group =
                |group: &&str| group.len() == 4 && group.chars().all(|c| c.is_ascii_alphanumeric());
            groups.len() == 4 && groups.iter().all(is_group)
        })
        .unwrap_or_else(|| panic!("no code: {page}"))
        .to_owned()
}

/// RFC 4648 base 32, as authenticator apps take it.
fn base32(text: &str) -> [u8; totp::SECRET_BYTES] {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let bits: String = text
        .chars()
        .map(|c| format!("{:05b}", ALPHABET.find(c).unwrap()))
        .collect();
    let bytes: Vec<u8> = (0..totp::SECRET_BYTES)
        .map(|at| u8::from_str_radix(&bits[at * 8..at * 8 + 8], 2).unwrap())
        .collect();
    bytes.try_into().unwrap()
}
