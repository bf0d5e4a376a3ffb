//! Bugs that can be planted, to see that the checker finds them. None of them is in the engine: each is a bent
//! port, or a bent console between a person and the engine, that does what the contract of the port forbids.
//! So a Chaperone that serves has no switch by which it could be made wrong.

use crate::memory::Forgets;

macro_rules! bugs {
    ($($(#[doc = $doc:literal])* $name:ident = $text:literal;)*) => {
        /// One planted bug.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Bug { $($(#[doc = $doc])* $name,)* }

        impl Bug {
            /// Every one.
            pub const ALL: &'static [Bug] = &[$(Bug::$name,)*];

            /// Its name on the command line.
            pub fn as_str(self) -> &'static str {
                match self { $(Bug::$name => $text,)* }
            }

            /// What it does, in a line.
            pub fn words(self) -> &'static str {
                match self { $(Bug::$name => concat!($($doc),*),)* }
            }

            /// Reads its name.
            pub fn parse(text: &str) -> Option<Bug> {
                Bug::ALL.iter().copied().find(|bug| bug.as_str() == text)
            }
        }
    };
}

bugs! {
    /// The EHR connection sends again by itself when no answer comes, before anybody looked.
    RetryBeforeReconcile = "retry-before-reconcile";
    /// The EHR connection leaves out `If-Match`.
    NoIfMatch = "no-if-match";
    /// The EHR connection leaves out `If-None-Exist`.
    NoIfNoneExist = "no-if-none-exist";
    /// The EHR connection takes silence for "not applied".
    UnknownIsFailed = "unknown-is-failed";
    /// The EHR connection takes silence for success.
    UnknownIsApplied = "unknown-is-applied";
    /// The EHR connection sends a body that is not the approved one.
    OtherBody = "other-body";
    /// The EHR connection sends what belongs together one by one.
    AsOneByOne = "as-one-by-one";
    /// The EHR connection sends one change more with several that were approved.
    EntryAdded = "entry-added";
    /// The EHR connection sends the last of several changes otherwise than it was approved.
    EntryChanged = "entry-changed";
    /// The EHR connection leaves out the last of several changes.
    EntryLeftOut = "entry-left-out";
    /// The EHR connection reads back the first of several changes, and takes the others on trust.
    FirstReadBackAlone = "first-read-back-alone";
    /// The EHR connection looks for the first of several changes, and takes the others on trust.
    FirstLookedForAlone = "first-looked-for-alone";
    /// The EHR connection takes a part of several changes that is there for all of them.
    PartIsAll = "part-is-all";
    /// The EHR connection takes a part of several changes that is not there for all of them.
    PartIsMissing = "part-is-missing";
    /// The EHR connection takes whatever the EHR's own operation answers for its acknowledgement.
    AnyAnswerAcknowledges = "any-answer-acknowledges";
    /// The EHR connection places orders that are to be signed in the EHR as if they were signed.
    PlacedInForce = "placed-in-force";
    /// The EHR connection reports a signature whatever it was put to.
    SignatureOfAnything = "signature-of-anything";
    /// The EHR connection names everybody who signs by the name of one who may.
    SignerNotTold = "signer-not-told";
    /// The store appends whatever version was expected, so that an approval counts more than once.
    ApprovalNotConsumed = "approval-not-consumed";
    /// The console puts the right digest in the place of the one that was on the screen.
    DigestNotCompared = "digest-not-compared";
    /// The directory makes a second person of somebody's second account.
    SamePersonTwice = "same-person-twice";
    /// The directory does not say that somebody is in training.
    TraineeUnmarked = "trainee-unmarked";
    /// The store keeps what a person made of a proposal, and not that it took the other's place.
    EditKeepsBoth = "edit-keeps-both";
    /// The console lets go what was set aside, and nobody asked it to.
    ReleasedByNobody = "released-by-nobody";
    /// The store lets a writer whose lease has moved on start deliveries.
    StaleEpochSends = "stale-epoch-sends";
    /// The store shows deliveries no switch that was moved.
    ModeNotChecked = "mode-not-checked";
    /// The store shows every ruling as if the bundle in force had made it.
    RulesNotCompared = "rules-not-compared";
    /// The EHR connection shows no consent that was withdrawn.
    ConsentNotChecked = "consent-not-checked";
    /// The store gives out work out of its order.
    OrderIgnored = "order-ignored";
    /// The store says that a commit is durable before it is.
    AckBeforeDurable = "ack-before-durable";
    /// The store lets two workers have the same work.
    ClaimShared = "claim-shared";
    /// The store loses a leaf that it had shown.
    LeafChanged = "leaf-changed";
    /// The store shows decisions nobody's claim, and guards none.
    ClaimsNotShown = "claims-not-shown";
    /// The console approves what was ticked together as if each had been opened.
    TogetherOneByOne = "together-one-by-one";
    /// The store keeps an exception that was used as one that can be.
    ExceptionNotUsedUp = "exception-not-used-up";
    /// The store shows that every granted exception has time left.
    ExceptionNeverEnds = "exception-never-ends";
    /// The store keeps on a list who was struck from it.
    StruckStays = "struck-stays";
    /// The store puts one more patient on a list while it is approved.
    ListGrows = "list-grows";
    /// The store shows every list as approved.
    ListsApproved = "lists-approved";
    /// The connection to decision support plays down what is critical.
    CardsPlayedDown = "cards-played-down";
    /// The console goes on over every card, and nobody said so.
    CardsOverriddenByNobody = "cards-overridden-by-nobody";
    /// Nobody looks for refusals: the store takes those that are recorded and keeps none.
    RefusalsDropped = "refusals-dropped";
}

impl Bug {
    /// What the store forgets under it.
    pub(crate) fn forgets(self) -> Forgets {
        let nothing = Forgets::default();
        match self {
            Bug::ApprovalNotConsumed => Forgets {
                versions: true,
                ..nothing
            },
            Bug::StaleEpochSends => Forgets {
                epochs: true,
                ..nothing
            },
            Bug::ModeNotChecked => Forgets {
                guards: true,
                ..nothing
            },
            Bug::OrderIgnored => Forgets {
                order: true,
                ..nothing
            },
            Bug::ClaimShared => Forgets {
                claims: true,
                ..nothing
            },
            _ => nothing,
        }
    }
}
