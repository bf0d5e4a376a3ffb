//! What can go wrong, and how often in one seed. Each seed has a temperament of its own: some things never go
//! wrong in it and others all the time, because what only shows when one thing fails alone is hidden by a world
//! in which everything fails a little.

use std::collections::BTreeMap;

use super::chance::Chance;

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $most:literal;)*) => {
        /// One kind of thing that goes wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Fault { $($(#[$doc])* $name,)* }

        impl Fault {
            /// Every kind.
            pub const ALL: &'static [Fault] = &[$(Fault::$name,)*];

            /// Its name in traces and summaries.
            pub fn as_str(self) -> &'static str {
                match self { $(Fault::$name => $text,)* }
            }

            /// The most often it happens, in a thousand of its occasions.
            fn most(self) -> u64 {
                match self { $(Fault::$name => $most,)* }
            }
        }
    };
}

faults! {
    /// A node dies, wherever its tasks wait.
    Crash = "crash", 400;
    /// A node is stopped for longer than its lease and goes on.
    Stop = "stop", 400;
    /// A node dies while it waits for what it asked.
    CrashInFlight = "crash-in-flight", 50;
    /// A node is stopped while it waits for what it asked.
    StopInFlight = "stop-in-flight", 50;
    /// A node's clock jumps forward.
    ClockForward = "clock-forward", 200;
    /// A node's clock jumps back.
    ClockBack = "clock-back", 200;
    /// A node is cut off from the store for a while.
    StorePartition = "store-partition", 200;
    /// A node is cut off from the EHR for a while.
    EhrPartition = "ehr-partition", 200;
    /// The store answers at once that it cannot.
    StoreUnavailable = "store-unavailable", 30;
    /// The store answers late.
    StoreSlow = "store-slow", 30;
    /// A commit never arrives, and nobody knows.
    CommitLost = "commit-lost", 20;
    /// A commit takes effect, and nobody knows.
    CommitAnswerLost = "commit-answer-lost", 30;
    /// The EHR answers late.
    EhrSlow = "ehr-slow", 150;
    /// The EHR cannot be reached; nothing was sent.
    EhrUnreachable = "ehr-unreachable", 100;
    /// A write never arrives, and nobody knows.
    WriteLost = "write-lost", 100;
    /// A write takes effect, and nobody knows.
    WriteAnswerLost = "write-answer-lost", 150;
    /// A write arrives after whoever sent it has given up.
    WriteLate = "write-late", 100;
    /// The network brings a write twice; the first answer is the one that counts.
    WriteTwice = "write-twice", 100;
    /// The network brings a write twice, and the second answer is the one that counts.
    WriteTwiceSecondCounts = "write-twice-second-counts", 60;
    /// A server error before anything was done.
    ErrorBefore = "error-before", 80;
    /// A server error after it was done.
    ErrorAfter = "error-after", 80;
    /// Asked to slow down.
    TooManyRequests = "too-many-requests", 80;
    /// Read too early: a search does not find yet what is there.
    StaleSearch = "stale-search", 300;
    /// A read fails.
    ReadFails = "read-fails", 60;
    /// The server refuses the content.
    Rejects = "rejects", 60;
    /// The server refuses our authority.
    Unauthorised = "unauthorised", 40;
    /// The server keeps something else than it was sent.
    KeepsOther = "keeps-other", 30;
    /// Of several changes the server keeps one otherwise than it was sent.
    KeepsOtherOfSeveral = "keeps-other-of-several", 300;
    /// Of several changes the server makes all but one, against its word.
    TakesInPart = "takes-in-part", 250;
    /// The server adds elements of its own.
    AddsElements = "adds-elements", 400;
    /// Somebody else changes a resource at the EHR.
    ForeignEdit = "foreign-edit", 300;
    /// The key vault does not answer.
    KeysUnavailable = "keys-unavailable", 10;
    /// A checkpoint cannot be anchored.
    AnchorFails = "anchor-fails", 150;
    /// A switch is moved.
    ModeSwitched = "mode-switched", 250;
    /// The governance bundle is replaced, and nodes start anew one after the other.
    RulesChanged = "rules-changed", 100;
    /// A patient withdraws consent.
    ConsentWithdrawn = "consent-withdrawn", 250;
    /// A person decides after the time to decide.
    DecidedLate = "decided-late", 150;
    /// A person decides twice at once, on two nodes.
    DecidedTwice = "decided-twice", 250;
    /// A person agrees to something else than they are taken to.
    OtherDigest = "other-digest", 150;
    /// A person tries to be both of two people.
    SamePerson = "same-person", 400;
    /// A second factor is used again.
    FactorAgain = "factor-again", 300;
    /// A person changes what is proposed.
    Edited = "edited", 250;
    /// Somebody in training approves first.
    TraineeFirst = "trainee-first", 300;
    /// Nobody but another one in training approves beside them.
    NobodyBeside = "nobody-beside", 300;
    /// An undo run is started.
    UndoRun = "undo-run", 120;
    /// A person rejects.
    Rejected = "rejected", 100;
    /// The EHR's own operation answers that it took note, and files nothing.
    TookNote = "took-note", 100;
    /// The EHR's own operation acknowledges, and files some seconds later.
    FilesLater = "files-later", 150;
    /// The EHR's own operation files a message as often as it comes, against its word.
    ForgetsMessages = "forgets-messages", 300;
    /// A person signs a draft in the EHR when the time for it is over.
    SignedLate = "signed-late", 150;
    /// Nobody signs a draft in the EHR.
    NotSigned = "not-signed", 150;
    /// A draft is signed in the EHR by somebody who may not approve it.
    SignedByAnother = "signed-by-another", 200;
    /// A draft is changed in the EHR and then signed.
    ChangedThenSigned = "changed-then-signed", 200;
    /// A draft is changed in the EHR by the signature itself.
    ChangedWithSignature = "changed-with-signature", 150;
    /// A draft is put in force in the EHR, and no signature says by whom.
    PutInForce = "put-in-force", 500;
    /// A draft is taken away in the EHR.
    TakenAway = "taken-away", 150;
    /// Somebody changes in the EHR what was signed there.
    ChangedAfterSigning = "changed-after-signing", 200;
    /// An agent asks again with the same key although it was answered.
    AskedAgain = "asked-again", 250;
}

/// How often each fault happens in one seed.
#[derive(Debug, Clone)]
pub(crate) struct Faults {
    rates: BTreeMap<Fault, u64>,
    active: bool,
}

impl Faults {
    /// The temperament of a seed.
    pub(crate) fn drawn(chance: &mut Chance) -> Self {
        let calm = chance.in_thousand(60);
        let rates = Fault::ALL
            .iter()
            .map(|fault| {
                let rate = match chance.below(3) {
                    _ if calm => 0,
                    0 => 0,
                    1 => fault.most() / 4,
                    _ => fault.most(),
                };
                (*fault, rate)
            })
            .collect();
        Self {
            rates,
            active: true,
        }
    }

    /// From now on things go wrong.
    pub(crate) fn begin(&mut self) {
        self.active = true;
    }

    /// From now on nothing goes wrong.
    pub(crate) fn end(&mut self) {
        self.active = false;
    }

    pub(crate) fn forbid(&mut self, fault: Fault) {
        self.rates.insert(fault, 0);
    }

    pub(crate) fn happens(&self, fault: Fault, chance: &mut Chance) -> bool {
        let rate = self.rates.get(&fault).copied().unwrap_or(0);
        self.active && rate > 0 && chance.in_thousand(rate)
    }
}
