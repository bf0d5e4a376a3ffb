//! The table of retention against what is kept, both ways, and against everything that would keep something for ever
//! or shorter than law says.

use chaperone_engine::inventory::{Inventory, artefacts};
use chaperone_engine::retention::rules::{AtEnd, RetentionInvalid, RetentionRules};

use crate::bench::{BUNDLE, bundle};

fn with(change: impl Fn(&str) -> String) -> Result<RetentionRules, RetentionInvalid> {
    let mut files = chaperone_policy::embedded::files();
    let text = files.get_mut("rules/retention.toml").unwrap();
    let changed = change(text);
    assert_ne!(changed, *text, "the change changed something");
    *text = changed;
    RetentionRules::of(&bundle(&files))
}

fn longer(text: &str) -> Result<RetentionRules, RetentionInvalid> {
    let mut files = chaperone_policy::embedded::files();
    files.insert("rules/retention-longer.toml".to_owned(), text.to_owned());
    RetentionRules::of(&bundle(&files))
}

/// The rule of this id says something else.
fn rule(id: &str, from: &str, to: &str) -> Result<RetentionRules, RetentionInvalid> {
    with(|text| {
        let (before, behind) = text.split_once(&format!("id = \"{id}\"")).unwrap();
        format!("{before}id = \"{id}\"{}", behind.replacen(from, to, 1))
    })
}

fn says(outcome: Result<RetentionRules, RetentionInvalid>, what: &str) {
    let said = outcome.unwrap_err().to_string();
    assert!(said.contains(what), "`{said}` does not say `{what}`");
}

#[test]
fn everything_that_is_kept_has_a_rule_and_the_inventory_says_it() {
    let rules = RetentionRules::of(&BUNDLE).unwrap();
    let inventory = Inventory::of(&BUNDLE).unwrap();
    for artefact in artefacts() {
        let words = rules.words(&artefact);
        assert!(!words.is_empty(), "{artefact}");
        let place = inventory.places.iter().find(|it| it.artefact == artefact);
        assert_eq!(place.unwrap().kept, words);
    }
    for class in ["training", "log", "metrics", "support"] {
        assert!(!rules.words(class).is_empty(), "requirement R058");
    }
    // Ephemeral, clinical and audit data end differently.
    let of = |id: &str| rules.all().iter().find(|rule| rule.id == id).unwrap();
    assert!(of("transcript-undelivered").keep.to_string() == "90 days");
    assert!(of("clinical-delivered").keep.to_string() == "10 years");
    assert_eq!(of("ledger-events").at_end, AtEnd::ByHand);
}

#[test]
fn nothing_is_kept_for_ever_and_nothing_beyond_the_cap() {
    for keep in [
        "keep = 0",
        "keep = \"0 years\"",
        "keep = \"for ever\"",
        "keep = \"forever\"",
        "keep = \"null\"",
        "keep = \"\"",
        "keep = inf",
        "keep = -1",
        "keep = false",
        "",
    ] {
        says(
            rule("clinical-delivered", "keep = \"10 years\"", keep),
            "nothing is kept for ever",
        );
    }
    says(
        rule("clinical-delivered", "10 years", "31 years"),
        "beyond the cap of 30 years",
    );
    assert!(rule("clinical-delivered", "10 years", "30 years").is_ok());
    says(
        with(|text| text.replace("cap = \"30 years\"", "cap = \"31 years\"")),
        "30 years",
    );
    says(
        with(|text| text.replace("cap = \"30 years\"", "cap = \"none\"")),
        "for ever",
    );
}

#[test]
fn nothing_is_shorter_than_the_law_that_covers_it() {
    says(
        rule("clinical-delivered", "10 years", "71 months"),
        "45 CFR 164.316(b)(2)(i)",
    );
    assert!(rule("clinical-delivered", "10 years", "6 years").is_ok());
    says(rule("audit-files", "6 years", "5 years"), "45 CFR 164.528");
    // What law does not cover may be shorter: a draft that nobody wanted.
    assert!(rule("clinical-undelivered", "1 year", "30 days").is_ok());
}

#[test]
fn a_rule_missing_twice_or_for_nothing_is_refused() {
    let missing =
        with(|text| text.replace("artefact = \"record/look\"", "artefact = \"record/other\""));
    assert_eq!(
        missing,
        Err(RetentionInvalid::Rules("record/look".to_owned()))
    );
    let narrow = rule("transcript-staged", "of = \"staged\"", "of = \"delivered\"");
    assert!(
        matches!(narrow, Err(RetentionInvalid::Rules(of)) if of.starts_with("payload/transcript"))
    );
    let stray = with(|text| {
        let row = "\n[[rules]]\nid = \"x\"\nartefact = \"elsewhere\"\nkeep = \"1 day\"\nfrom = \"created\"\nat_end = \"delete\"\nsource = \"x\"\nowner = \"x\"\nreview_by = \"2027-05-22\"\n";
        format!("{text}{row}")
    });
    assert_eq!(
        stray,
        Err(RetentionInvalid::Unknown("elsewhere".to_owned()))
    );
    let covers = with(|text| text.replace("\"files/conformance\"]", "\"files/nothing\"]"));
    assert_eq!(
        covers,
        Err(RetentionInvalid::Unknown("files/nothing".to_owned()))
    );
    says(
        with(|text| text.replace("id = \"token-index\"", "id = \"token\"")),
        "two rules",
    );
}

#[test]
fn a_rule_that_cannot_be_carried_out_is_refused() {
    says(rule("log", "how = ", "# how = "), "needs `how`");
    says(
        rule(
            "clinical-delivered",
            "at_end = \"delete\"",
            "at_end = \"by-hand\"\nhow = \"x\"",
        ),
        "end with `delete`",
    );
    says(
        rule(
            "clinical-delivered",
            "from = \"ended\"",
            "from = \"last-activity\"",
        ),
        "counted from",
    );
    says(
        rule("token", "at_end = \"shred\"", "at_end = \"delete\""),
        "go together",
    );
    says(
        rule("session", "at_end = \"delete\"", "at_end = \"archive\""),
        "",
    );
    says(
        rule("session", "owner = \"security officer\"", "owner = \"\""),
        "`owner` is empty",
    );
    says(rule("session", "2027-05-22", "soon"), "review_by");
    says(
        with(|text| text.replace("age_of_majority_years = 18", "age_of_majority_years = 3")),
        "majority",
    );
}

#[test]
fn an_organisation_makes_rules_longer_and_never_shorter() {
    let of = |keep: &str| {
        longer(&format!(
            "[[longer]]\nrule = \"clinical-delivered\"\nkeep = \"{keep}\"\nsource = \"state law\"\nowner = \"privacy officer\"\nreview_by = \"2027-01-01\"\n"
        ))
    };
    let rules = of("12 years").unwrap();
    let rule = rules
        .all()
        .iter()
        .find(|rule| rule.id == "clinical-delivered");
    assert_eq!(rule.unwrap().keep.to_string(), "12 years");
    assert_ne!(
        rules.digest(),
        RetentionRules::of(&BUNDLE).unwrap().digest()
    );
    says(of("10 years"), "only make it longer");
    says(of("9 years"), "only make it longer");
    says(of("31 years"), "beyond the cap");
    says(of("for ever"), "for ever");
    says(
        longer(
            "[[longer]]\nrule = \"nothing\"\nkeep = \"12 years\"\nsource = \"x\"\nowner = \"x\"\nreview_by = \"2027-01-01\"\n",
        ),
        "is not there",
    );
    says(longer("[[shorter]]\n"), "retention-longer.toml");
}
