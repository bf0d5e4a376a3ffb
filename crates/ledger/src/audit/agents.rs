//! Who took part: the client, the EHR, the human behind it, and the agent where it is not the client.
//! Exactly one of them is the requestor: the human, where there is one.

use chaperone_core::event::Event;
use chaperone_core::ids::{AccountName, PersonId};
use chaperone_core::principal::{Actor, Role, SystemPart};
use chaperone_core::writeback::WritebackEvent;
use serde_json::{Map, Value, json};

use super::AuditCase;
use super::codes::CodeRow;
use super::event::Telling;

const DCM: &str = "http://dicom.nema.org/resources/ontology/DCM";

const ROLE_CLASS: &str = "http://terminology.hl7.org/CodeSystem/v3-RoleClass";
const SECURITY_ROLE: &str = "http://terminology.hl7.org/CodeSystem/extra-security-role-type";

/// A human who took part.
struct Person<'a> {
    id: PersonId,
    account: Option<&'a AccountName>,
    role: Option<Role>,
}

/// The participants.
pub(super) fn of(telling: &Telling<'_>) -> Vec<Value> {
    let row = telling.row;
    let person = person(telling);
    let agent_is_client = is_agent_client(telling);
    let mut client = participant(telling, &row.client);
    client.insert("who".to_owned(), client_who(telling, agent_is_client));
    client.insert("requestor".to_owned(), json!(person.is_none()));
    let mut participants = Vec::new();
    if agent_is_client || telling.agent().is_none() {
        add_policies(telling, &mut client);
        participants.push(Value::Object(client));
    } else {
        participants.push(Value::Object(client));
        let mut agent = Map::new();
        let application = json!({ "coding": [{ "system": DCM, "code": "110150" }] });
        agent.insert("type".to_owned(), application);
        agent.insert("who".to_owned(), agent_who(telling));
        agent.insert("requestor".to_owned(), json!(false));
        add_policies(telling, &mut agent);
        participants.push(Value::Object(agent));
    }
    if let Some(server) = &row.server {
        let mut ehr = participant(telling, server);
        let who = identified(
            "urn:chaperone:connection",
            telling.system.connection.as_str(),
        );
        ehr.insert("who".to_owned(), who);
        ehr.insert("requestor".to_owned(), json!(false));
        let network = json!({ "address": telling.system.endpoint, "type": "5" });
        ehr.insert("network".to_owned(), network);
        participants.push(Value::Object(ehr));
    }
    if let Some(person) = person {
        participants.push(user(telling, &person));
    }
    if telling.case == AuditCase::ConsentDenied {
        participants.extend(around_consent(telling));
    }
    participants
}

/// For whom the user works, and who decided: what the pattern for decisions by a Consent wants beside the user.
fn around_consent(telling: &Telling<'_>) -> [Value; 2] {
    let other = |system: &str, code: &str, who: Value| {
        json!({
            "type": { "coding": [{ "system": system, "code": code }] },
            "who": who,
            "requestor": false,
        })
    };
    let tenant = identified("urn:chaperone:tenant", telling.system.tenant.as_str());
    [
        other(ROLE_CLASS, "PROV", tenant),
        other(SECURITY_ROLE, "authserver", telling.observer()),
    ]
}

fn participant(telling: &Telling<'_>, code: &CodeRow) -> Map<String, Value> {
    let mut participant = Map::new();
    let coding = json!({ "coding": [telling.codes.coding(code)] });
    participant.insert("type".to_owned(), coding);
    participant
}

fn user(telling: &Telling<'_>, person: &Person<'_>) -> Value {
    let mut user = participant(telling, &telling.row.user);
    if let Some(role) = person.role {
        let coding =
            json!([{ "coding": [{ "system": "urn:chaperone:role", "code": role.as_str() }] }]);
        user.insert("role".to_owned(), coding);
    }
    let who = identified("urn:chaperone:person", &person.id.to_string());
    user.insert("who".to_owned(), who);
    if let Some(account) = person.account {
        user.insert("altId".to_owned(), json!(account.as_str()));
    }
    user.insert("requestor".to_owned(), json!(true));
    if let Some(purpose) = telling.purpose() {
        user.insert("purposeOfUse".to_owned(), json!([purpose]));
    }
    Value::Object(user)
}

/// The human behind it: who acted; for what an agent does, whom it acts for; for a delivery, who approved last.
fn person<'a>(telling: &'a Telling<'_>) -> Option<Person<'a>> {
    if let Actor::Human { account, person } = &telling.recorded.actor {
        let role = match &telling.recorded.event {
            Event::Writeback(WritebackEvent::Approved { approval }) => Some(approval.role),
            _ => None,
        };
        return Some(Person {
            id: *person,
            account: Some(account),
            role,
        });
    }
    let is_write = matches!(telling.case, AuditCase::Create | AuditCase::Update);
    if is_write && let Some(last) = telling.write().and_then(|write| write.approvals.last()) {
        return Some(Person {
            id: last.person,
            account: Some(&last.account),
            role: Some(last.role),
        });
    }
    let is_theirs = is_write || matches!(telling.recorded.actor, Actor::Agent { .. });
    let behind = match &telling.recorded.event {
        Event::EnvelopeOpened(envelope) => envelope.presence.as_ref().map(|it| it.person),
        Event::Writeback(WritebackEvent::Proposed(proposal)) => proposal.requester,
        _ => telling.work().and_then(|work| work.human),
    };
    behind.filter(|_| is_theirs).map(|id| Person {
        id,
        account: None,
        role: None,
    })
}

/// Whether the agent itself is the client: it asked, or what is sent to the EHR is its proposal.
fn is_agent_client(telling: &Telling<'_>) -> bool {
    let is_write = matches!(telling.case, AuditCase::Create | AuditCase::Update);
    let asked = matches!(&telling.recorded.actor, Actor::Agent { agent, .. } if Some(agent) == telling.agent());
    telling.agent().is_some() && (asked || is_write)
}

fn client_who(telling: &Telling<'_>, agent_is_client: bool) -> Value {
    if agent_is_client {
        return agent_who(telling);
    }
    let service = |part: &str| identified("urn:chaperone:service", part);
    match &telling.recorded.actor {
        Actor::Agent { agent, .. } => identified("urn:chaperone:agent", agent.as_str()),
        Actor::Human { .. } => service("console"),
        Actor::System { part } => service(match part {
            SystemPart::Gateway => "gateway",
            SystemPart::Delivery => "delivery",
            SystemPart::Expiry => "expiry",
            SystemPart::Setup => "setup",
            SystemPart::Dispatcher => "dispatcher",
            SystemPart::CommandLine => "command-line",
            SystemPart::Retention => "retention",
            SystemPart::Undo => "undo",
            SystemPart::Oversight => "oversight",
        }),
        Actor::Portal { portal } => identified("urn:chaperone:portal", portal.as_str()),
        Actor::Anonymous => json!({ "display": "not identified" }),
    }
}

fn agent_who(telling: &Telling<'_>) -> Value {
    let agent = telling.agent().map_or("", |agent| agent.as_str());
    match &telling.about.agent_version {
        Some(version) => identified("urn:chaperone:agent", &format!("{agent}@{version}")),
        None => identified("urn:chaperone:agent", agent),
    }
}

fn identified(system: &str, value: &str) -> Value {
    json!({ "identifier": { "system": system, "value": value } })
}

/// What permitted it: the access token, the policies, the decision.
fn add_policies(telling: &Telling<'_>, participant: &mut Map<String, Value>) {
    let mut policies = Vec::new();
    let work = telling.work();
    let envelope = match &telling.recorded.event {
        Event::EnvelopeOpened(envelope) => Some(envelope.id),
        _ => work.map(|work| work.envelope),
    };
    if let Some(envelope) = envelope {
        policies.push(format!("urn:ietf:params:oauth:jti:{envelope}"));
    }
    let (of, bundle) = match (telling.read(), telling.write()) {
        (Some(read), _) => (&read.policies[..], work.and_then(|work| work.bundle)),
        (None, Some(write)) => (&write.policies[..], write.ruled_by),
        (None, None) => (&[][..], None),
    };
    for policy in of {
        policies.push(match bundle {
            Some(bundle) => format!("urn:chaperone:policy:{policy}:{bundle}"),
            None => format!("urn:chaperone:policy:{policy}"),
        });
    }
    if let Some(correlation) = telling.correlation() {
        policies.push(format!("urn:chaperone:decision:{correlation}"));
    }
    if !policies.is_empty() {
        participant.insert("policy".to_owned(), json!(policies));
    }
}
