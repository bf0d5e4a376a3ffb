//! The FHIR endpoint against a server that we did not write: Medplum's router over HTTP.
//!
//! Runs when `CHAPERONE_TEST_MEDPLUM` holds the base URL of a running server
//! (`scripts/e2e-medplum` starts one); otherwise each test says that it was skipped. What that server
//! honours and what it does not is in `tests/e2e/medplum/README.md`. Start at [`Bench`].

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::disallowed_methods,
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason
    )
)]

use std::sync::Arc;

use chaperone_connect::clock::SystemClock;
use chaperone_connect::egress::Gate as EgressGate;
use chaperone_connect::ehr::{EhrAuth, EhrConfig, EhrLimits, FhirEndpoint, ProfileSource};
use chaperone_connect::random::OsRandom;
use chaperone_core::change::ChangeClass;
use chaperone_core::content::content_digest;
use chaperone_core::digest::Digest;
use chaperone_core::evidence::{AgentVersion, Delivering, Strategy, ValidationRecord, WriteOrder};
use chaperone_core::gate::Gate;
use chaperone_core::ids::{AgentId, ConnectionId, TenantId, WritebackId};
use chaperone_core::ports::{
    Ehr, EhrRead, EhrReadFailed, EhrSearch, Environment, Random, Reconciliation, Version,
    WriteFailed, WriteReceipt,
};
use chaperone_core::resource::{Interaction, ResourceType};
use chaperone_core::writeback::HumanNeeded;
use serde_json::{Value, json};

const BASE_URL: &str = "CHAPERONE_TEST_MEDPLUM";
const CONDITIONAL: Strategy = Strategy::Conditional;
const PLAIN: Strategy = Strategy::PlainPost;

/// An endpoint that has asked the server what it can do, and a patient that no other test writes to.
struct Bench {
    ehr: FhirEndpoint,
    patient: String,
}

impl Bench {
    /// `None`, said on standard output, without a server.
    #[expect(
        clippy::print_stdout,
        reason = "a test that was skipped says so where tests are read"
    )]
    async fn new() -> Option<Self> {
        let Ok(base_url) = std::env::var(BASE_URL) else {
            println!("skipped: {BASE_URL} is not set; scripts/e2e-medplum runs this test");
            return None;
        };
        // Fails only when another test of this process was faster, which is as good.
        let _already = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let config = EhrConfig {
            connection: ConnectionId::new("ehr").unwrap(),
            environment: Environment::Test,
            base_url,
            auth: EhrAuth::Open,
            limits: EhrLimits::default(),
            profile: ProfileSource::Probed {
                transactions_are_atomic: false,
                updates_as_patches: false,
            },
            settle_ms: 1_000,
            extra_root_pem: None,
        };
        let ehr = FhirEndpoint::new(
            config,
            &EgressGate::to_this_machine(Arc::new(SystemClock)),
            Arc::new(SystemClock),
            Arc::new(OsRandom),
        )
        .unwrap();
        ehr.adopt_probe().await.unwrap();
        Some(Self {
            ehr,
            patient: format!("Patient/{}", new_writeback()),
        })
    }

    fn task(&self, writeback: &WritebackId, text: &str) -> Value {
        json!({
            "resourceType": "Task",
            "identifier": [{"system": "urn:chaperone:writeback", "value": writeback.to_string()}],
            "status": "requested",
            "intent": "order",
            "for": {"reference": self.patient},
            "description": text,
        })
    }

    fn create(&self, strategy: Strategy, writeback: WritebackId, body: &Value) -> WriteOrder {
        let mut order = order(&self.ehr, strategy, writeback, body);
        if strategy == CONDITIONAL {
            order.if_none_exist = Some(format!("identifier=urn:chaperone:writeback|{writeback}"));
        }
        order
    }

    fn update(&self, strategy: Strategy, base: &Value, body: &Value) -> WriteOrder {
        let mut order = order(&self.ehr, strategy, new_writeback(), body);
        order.interaction = Interaction::Update;
        order.path = format!("Task/{}", text_of(base, "/id"));
        order.base_digest = Some(content_digest(base));
        if strategy == CONDITIONAL {
            let version = text_of(base, "/meta/versionId");
            order.if_match = Some(format!("W/\"{version}\""));
            order.base_version = Some(version.to_owned());
        }
        order
    }

    async fn write(&self, order: &WriteOrder) -> Result<WriteReceipt, WriteFailed> {
        self.ehr.write(&attempt(order, 1)).await
    }

    async fn reconcile(&self, order: &WriteOrder) -> Reconciliation {
        self.ehr.reconcile(&attempt(order, 2)).await.unwrap()
    }

    /// A Task that is there before the test's own writes, as read.
    async fn existing(&self, text: &str) -> Value {
        let writeback = new_writeback();
        let body = self.task(&writeback, text);
        let order = self.create(PLAIN, writeback, &body);
        let receipt = self.write(&order).await.unwrap();
        self.read_at(&receipt.location).await
    }

    /// Somebody else's change, which needs no condition here.
    async fn somebody_writes(&self, base: &Value, text: &str) -> Value {
        let now = self.ehr.read(&kind("Task"), text_of(base, "/id")).await;
        let now = now.unwrap();
        let order = self.update(PLAIN, &now, &described(&now, text));
        let receipt = self.write(&order).await.unwrap();
        self.read_at(&receipt.location).await
    }

    async fn read_at(&self, location: &str) -> Value {
        let id = location.split('/').nth(1).unwrap();
        self.ehr.read(&kind("Task"), id).await.unwrap()
    }

    async fn search(&self, resource: &str, parameters: &[(&str, &str)], limit: u32) -> EhrRead {
        let parameters = parameters
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let search = EhrSearch {
            resource: kind(resource),
            parameters,
            limit,
        };
        self.ehr.search(search).await.unwrap()
    }

    async fn tasks(&self) -> Vec<Value> {
        self.search("Task", &[("patient", &self.patient)], 10)
            .await
            .resources
    }

    async fn provenances(&self, receipt: &WriteReceipt) -> usize {
        let target = receipt.location.as_str();
        let found = self.search("Provenance", &[("target", target)], 10).await;
        found.resources.len()
    }
}

fn kind(name: &str) -> ResourceType {
    ResourceType::new(name).unwrap()
}

fn new_writeback() -> WritebackId {
    WritebackId::from_random(OsRandom.id())
}

fn text_of<'a>(resource: &'a Value, pointer: &str) -> &'a str {
    resource.pointer(pointer).unwrap().as_str().unwrap()
}

fn described(base: &Value, text: &str) -> Value {
    let mut body = base.clone();
    body["description"] = json!(text);
    body
}

fn attempt(order: &WriteOrder, number: u32) -> Delivering {
    let bytes = serde_json::to_vec(order).unwrap();
    Delivering::begin(order.clone(), Digest::of_bytes(&bytes), number)
}

fn order(
    ehr: &FhirEndpoint,
    strategy: Strategy,
    writeback: WritebackId,
    body: &Value,
) -> WriteOrder {
    let resource = kind(text_of(body, "/resourceType"));
    let provenance = json!({
        "resourceType": "Provenance",
        "recorded": "2026-03-02T15:00:00Z",
        "agent": [{"who": {"display": "an agent"}}],
    });
    WriteOrder {
        tenant: TenantId::new("clinic").unwrap(),
        writeback,
        patient: None,
        connection: ehr.connection().clone(),
        endpoint: ehr.endpoint().to_owned(),
        interaction: Interaction::Create,
        path: resource.to_string(),
        resource,
        if_none_exist: None,
        if_match: None,
        base_version: None,
        base_digest: None,
        base: None,
        body: body.to_string(),
        patch: None,
        provenance: Some(provenance.to_string()),
        strategy,
        operation: None,
        signed_form: None,
        gate: Gate::Auto,
        class: ChangeClass::M0,
        bundle: Digest::of_bytes(b"bundle"),
        validation: ValidationRecord {
            validator: "test#1".to_owned(),
            packages: Vec::new(),
            stages: Vec::new(),
            body: Digest::of_bytes(b"body"),
            rules: None,
            findings: None,
        },
        author: AgentVersion {
            agent: AgentId::new("agent").unwrap(),
            version: "1".to_owned(),
            model: "model".to_owned(),
            prompts: Vec::new(),
        },
        evidence: Vec::new(),
        rests_on: Default::default(),
        resembles: Vec::new(),
        asked: None,
        call: None,
        edit: None,
        also: Vec::new(),
        salt: chaperone_core::digest::Salt::from_random([8; 32]),
    }
}

fn applied(reconciliation: Reconciliation) -> WriteReceipt {
    match reconciliation {
        Reconciliation::Applied(receipt) => receipt,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_probed_profile_is_conditional_and_not_atomic() {
    let Some(bench) = Bench::new().await else {
        return;
    };
    let profile = bench.ehr.profile();
    for interaction in [Interaction::Create, Interaction::Update] {
        let support = profile.of(&kind("Task"), interaction);
        assert_eq!(support.strategy, CONDITIONAL);
        assert!(support.provenance && !support.atomic);
    }
    // Without a search by identifier a conditional create would protect nothing.
    let provenance = profile.of(&kind("Provenance"), Interaction::Create);
    assert_eq!(provenance.strategy, PLAIN);
    let unknown = profile.of(&kind("Nonsense"), Interaction::Create);
    assert_eq!(unknown.strategy, Strategy::HumanEntry);
}

#[tokio::test]
async fn what_is_there_is_read_and_found_and_nothing_else() {
    let Some(bench) = Bench::new().await else {
        return;
    };
    let task = bench.existing("call the patient").await;
    let identifier = text_of(&task, "/identifier/0/value");
    let ours = format!("urn:chaperone:writeback|{identifier}");
    let by_identifier = bench.search("Task", &[("identifier", &ours)], 5).await;
    assert_eq!(by_identifier.resources, std::slice::from_ref(&task));
    assert!(!by_identifier.more);
    assert_eq!(bench.tasks().await, std::slice::from_ref(&task));

    let theirs = format!("urn:other|{identifier}");
    let other = bench.search("Task", &[("identifier", &theirs)], 5).await;
    assert!(other.resources.is_empty() && !other.more);
    let missing = bench.ehr.read(&kind("Task"), "no-such-task").await;
    assert_eq!(missing, Err(EhrReadFailed::NotFound));
}

#[tokio::test]
async fn a_page_that_was_cut_short_without_a_link_is_known_to_be() {
    let Some(bench) = Bench::new().await else {
        return;
    };
    for text in ["first", "second", "third"] {
        bench.existing(text).await;
    }
    let parameters = [("patient", bench.patient.as_str())];
    let some = bench.search("Task", &parameters, 2).await;
    assert_eq!((some.resources.len(), some.more), (2, true));
    let all = bench.search("Task", &parameters, 3).await;
    assert_eq!((all.resources.len(), all.more), (3, false));
}

#[tokio::test]
async fn two_conditional_creates_make_one_resource() {
    let Some(bench) = Bench::new().await else {
        return;
    };
    let writeback = new_writeback();
    let body = bench.task(&writeback, "call the patient");
    let order = bench.create(CONDITIONAL, writeback, &body);
    let first = bench.write(&order).await.unwrap();
    assert!(first.version.is_some() && first.read_back.is_some() && first.provenance_written);

    // Once as if the first send had never been heard of, once as a second attempt, two at a time.
    let again = bench.write(&order).await.unwrap();
    let second = attempt(&order, 2);
    let (one, other) = tokio::join!(bench.ehr.write(&second), bench.write(&order));
    for receipt in [again, one.unwrap(), other.unwrap()] {
        assert_eq!(receipt.location, first.location);
        assert_eq!(receipt.version, first.version);
        assert!(receipt.provenance_written);
    }
    assert_eq!(bench.tasks().await.len(), 1);
    assert_eq!(bench.provenances(&first).await, 1);
}

#[tokio::test]
async fn other_content_under_our_identifier_is_no_success() {
    let Some(bench) = Bench::new().await else {
        return;
    };
    let writeback = new_writeback();
    let theirs = bench.task(&writeback, "theirs");
    let theirs = bench.create(PLAIN, writeback, &theirs);
    bench.write(&theirs).await.unwrap();
    let ours = bench.task(&writeback, "ours");
    let ours = bench.create(CONDITIONAL, writeback, &ours);
    assert_eq!(bench.write(&ours).await, Err(WriteFailed::Unknown));
    let differs = Reconciliation::Undecidable(HumanNeeded::ContentDiffers);
    assert_eq!(bench.reconcile(&ours).await, differs);

    bench.write(&theirs).await.unwrap();
    assert_eq!(bench.write(&ours).await, Err(WriteFailed::Unknown));
    let several = Reconciliation::Undecidable(HumanNeeded::MoreThanOne);
    assert_eq!(bench.reconcile(&ours).await, several);
}

#[tokio::test]
async fn an_update_is_applied_onto_its_base_and_never_onto_another() {
    let Some(bench) = Bench::new().await else {
        return;
    };
    let base = bench.existing("before").await;
    let order = bench.update(CONDITIONAL, &base, &described(&base, "after"));
    let receipt = bench.write(&order).await.unwrap();
    let base_version = Version(text_of(&base, "/meta/versionId").to_owned());
    assert!(receipt.version.is_some() && receipt.version != Some(base_version));
    assert!(receipt.read_back.is_some() && receipt.provenance_written);

    let stale = bench.update(CONDITIONAL, &base, &described(&base, "too late"));
    assert_eq!(bench.write(&stale).await, Err(WriteFailed::Stale));
    let now = bench.read_at(&receipt.location).await;
    assert_eq!(text_of(&now, "/description"), "after");
}

#[tokio::test]
async fn a_create_is_missing_before_and_found_after_also_when_changed_since() {
    let Some(bench) = Bench::new().await else {
        return;
    };
    let writeback = new_writeback();
    let body = bench.task(&writeback, "call the patient");
    let order = bench.create(CONDITIONAL, writeback, &body);
    assert_eq!(bench.reconcile(&order).await, Reconciliation::Missing);
    let receipt = bench.write(&order).await.unwrap();
    assert_eq!(applied(bench.reconcile(&order).await), receipt);

    let now = bench.read_at(&receipt.location).await;
    bench.somebody_writes(&now, "changed since").await;
    // Twice, because this server's history turns around each time it is read.
    for _ in 0..2 {
        assert_eq!(applied(bench.reconcile(&order).await), receipt);
    }
}

#[tokio::test]
async fn an_update_is_missing_before_and_found_after_also_when_changed_since() {
    let Some(bench) = Bench::new().await else {
        return;
    };
    let base = bench.existing("before").await;
    let order = bench.update(CONDITIONAL, &base, &described(&base, "after"));
    assert_eq!(bench.reconcile(&order).await, Reconciliation::Missing);
    let receipt = bench.write(&order).await.unwrap();
    assert_eq!(applied(bench.reconcile(&order).await), receipt);

    let now = bench.read_at(&receipt.location).await;
    bench.somebody_writes(&now, "changed since").await;
    for _ in 0..2 {
        assert_eq!(applied(bench.reconcile(&order).await), receipt);
    }
}

#[tokio::test]
async fn content_older_than_the_base_is_no_sign_of_an_update() {
    let Some(bench) = Bench::new().await else {
        return;
    };
    let first = bench.existing("first").await;
    let base = bench.somebody_writes(&first, "second").await;
    // Would bring the first content back, is never sent, and somebody else writes meanwhile.
    let order = bench.update(CONDITIONAL, &base, &described(&base, "first"));
    bench.somebody_writes(&base, "third").await;
    let differs = Reconciliation::Undecidable(HumanNeeded::ContentDiffers);
    // This server's history is in every order by turns.
    for _ in 0..3 {
        assert_eq!(bench.reconcile(&order).await, differs);
        bench.somebody_writes(&base, "later").await;
    }
}

#[tokio::test]
async fn a_plain_create_is_read_back_and_its_outcome_cannot_be_told_later() {
    let Some(bench) = Bench::new().await else {
        return;
    };
    let writeback = new_writeback();
    let body = bench.task(&writeback, "call the patient");
    let order = bench.create(PLAIN, writeback, &body);
    let receipt = bench.write(&order).await.unwrap();
    assert!(receipt.read_back.is_some());
    let cannot_tell = Reconciliation::Undecidable(HumanNeeded::EndpointCannotTell);
    assert_eq!(bench.reconcile(&order).await, cannot_tell);
}

#[tokio::test]
async fn a_plain_update_is_sent_only_onto_the_content_it_was_made_from() {
    let Some(bench) = Bench::new().await else {
        return;
    };
    let base = bench.existing("before").await;
    let order = bench.update(PLAIN, &base, &described(&base, "after"));
    let receipt = bench.write(&order).await.unwrap();
    assert!(receipt.read_back.is_some());
    assert_eq!(bench.write(&order).await, Err(WriteFailed::Stale));
}
