//! What else an entry says, as details of its entity: the names and values that AuditEvent has no place for.

use std::collections::BTreeMap;

use chaperone_core::claim::{ClaimEvent, ClaimHolder};
use chaperone_core::cohort::CohortEvent;
use chaperone_core::cover::CoverEvent;
use chaperone_core::decision_support::DecisionSupportEvent;
use chaperone_core::envelope::GrantSource;
use chaperone_core::event::Event;
use chaperone_core::exception::ExceptionEvent;
use chaperone_core::key_event::KeyEvent;
use chaperone_core::launch::LaunchEvent;
use chaperone_core::oversight::{Combination, OversightEvent};
use chaperone_core::passkey::PasskeyEvent;
use chaperone_core::patient_mail::PatientMailEvent;
use chaperone_core::principal::Actor;
use chaperone_core::retention::RetentionEvent;
use chaperone_core::undo::UndoEvent;
use chaperone_core::writeback::WritebackEvent;
use serde_json::{Value, json};

use super::super::access::{ReadAccess, ReadEnd, WriteAccess};
use super::super::event::name_of;

/// Names and values that have no place of their own; values that are empty are left out.
#[derive(Default)]
pub(super) struct Details(Vec<Value>);

impl Details {
    /// In order.
    pub(super) fn entries(&self) -> &[Value] {
        &self.0
    }

    pub(super) fn add(&mut self, name: &str, value: impl ToString) -> &mut Self {
        let value = value.to_string();
        if !value.is_empty() {
            self.0.push(json!({ "type": name, "valueString": value }));
        }
        self
    }

    pub(super) fn maybe(&mut self, name: &str, value: Option<impl ToString>) -> &mut Self {
        if let Some(value) = value {
            self.add(name, value);
        }
        self
    }
}

pub(super) fn add_read(details: &mut Details, read: &ReadAccess, actor: &Actor) {
    let is_person = matches!(actor, Actor::Human { .. });
    details
        .add("tool", &read.tool)
        .add("resource", &read.resource)
        .add("consent", &read.consent)
        .add("mode", if is_person { "human" } else { "automated" });
    match &read.end {
        // A page of the console shows what it says; no other record is made.
        ReadEnd::None if is_person => {
            details.add("fields", read.ceiling.join(","));
        }
        ReadEnd::None => {
            details
                .add("fields-at-most", read.ceiling.join(","))
                .add("released", "not recorded: at most these fields were shown");
        }
        ReadEnd::Released {
            resources,
            versions,
            fields,
            labels,
            withheld,
            ..
        } => {
            details
                .add("fields", fields.join(","))
                .add("resources", resources)
                .add("versions", versions)
                .add("labels", labels.join(","))
                .add("withheld", withheld.join(","));
        }
        ReadEnd::Failed { .. } => {
            details.add("released", "nothing");
        }
    }
}

pub(super) fn add_write(details: &mut Details, write: &WriteAccess) {
    let gate = write.gate.as_ref().map(|gate| gate.level().as_str());
    details
        .add("tool", &write.tool)
        .maybe("resource", write.resource.as_ref())
        .maybe("class", write.class)
        .maybe("gate", gate)
        .add("elements", write.elements.join(","))
        .add("tainted", write.tainted);
    if write.approvals.is_empty() {
        details.add("mode", "automated");
    } else {
        details.add("mode", "human-approved");
    }
}

/// Names of data keys stay in the ledger: they hold tokens of many patients, and an AuditEvent has one at most.
fn add_support(details: &mut Details, event: &DecisionSupportEvent) {
    match event {
        DecisionSupportEvent::Asked {
            order, services, ..
        } => {
            details.add("order", order);
            for service in services {
                let heard = match service.not_heard {
                    None => format!("{} cards, {} critical", service.cards, service.critical),
                    Some(_) => "not heard".to_owned(),
                };
                details.add("service", format!("{}: {heard}", service.service));
            }
        }
        DecisionSupportEvent::Overridden {
            order,
            card,
            reason,
        } => {
            details
                .add("order", order)
                .add("card", card)
                .add("reason", reason);
        }
    }
}

fn add_key(details: &mut Details, event: &KeyEvent) {
    match event {
        KeyEvent::Used {
            node,
            since,
            keys,
            further,
        } => {
            let uses = |of: fn(&chaperone_core::key_event::KeyUses) -> u64| {
                keys.iter().map(of).fold(0, u64::saturating_add)
            };
            details
                .add("node", node)
                .add("since", since)
                .add("keys", keys.len())
                .add("sealed", uses(|it| it.seal))
                .add("opened", uses(|it| it.open))
                .add("digests", uses(|it| it.digest))
                .add("further-uses", further);
        }
        KeyEvent::Failed {
            node,
            code,
            count,
            since,
            ..
        } => {
            details
                .add("node", node)
                .add("code", code)
                .add("count", count)
                .add("since", since);
        }
        KeyEvent::Destroyed { at, version, .. } => {
            details.maybe("destroyed", *at).maybe("version", *version);
        }
        KeyEvent::RotationStarted { from } => {
            details.add("from", from);
        }
        KeyEvent::RotationFinished {
            to,
            backups_gone_by,
            ..
        } => {
            details
                .add("to", to)
                .add("backups-gone-by", backups_gone_by);
        }
        KeyEvent::MasterChanged {
            service,
            key,
            backups_gone_by,
            ..
        } => {
            details
                .add("service", service)
                .add("key", key)
                .add("backups-gone-by", backups_gone_by);
        }
        KeyEvent::EscrowShown { reason } => {
            details.maybe("reason", name_of(reason));
        }
        KeyEvent::DestroyedAgain { .. } | KeyEvent::MasterChangeStarted => {}
    }
}

pub(super) fn add_event(details: &mut Details, event: &Event) {
    match event {
        Event::GrantIssued(grant) => {
            let source = match &grant.source {
                GrantSource::Human { person } => format!("human {person}"),
                GrantSource::EhrEvent => "event of the EHR".to_owned(),
                GrantSource::EhrNotification {
                    notified_by,
                    event_type,
                    ..
                } => format!("event of the EHR, {event_type} by {notified_by}"),
                GrantSource::PatientSession => "the patient's own session".to_owned(),
                GrantSource::Dispatcher { dispatcher } => format!("dispatcher {dispatcher}"),
                GrantSource::Cohort { job, requester } => {
                    format!("cohort job {job}, asked for by {requester}")
                }
            };
            details.add("intent", &grant.intent).add("source", source);
        }
        Event::EnvelopeOpened(envelope) => {
            details
                .add("intent", &envelope.intent)
                .maybe("grant", envelope.grant)
                .add("bundle", envelope.bundle)
                .add("expires", envelope.expires);
        }
        Event::AccountCreated { roles, .. } => {
            let roles: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
            details.add("roles", roles.join(","));
        }
        Event::ModeSwitched { mode, .. } => {
            details.add("to", mode.as_str());
        }
        Event::ConformanceReported(report) => {
            details
                .add("connection", &report.connection)
                .add("verdict", report.verdict.as_str());
        }
        Event::Key(event) => add_key(details, event),
        Event::BreakGlassStarted { until, .. } => {
            details.add("until", until);
        }
        Event::BreakGlassEnded { cause, .. } => {
            details.maybe("ended", name_of(cause));
        }
        Event::DecisionSupport(event) => add_support(details, event),
        Event::Exception(event) => match event {
            ExceptionEvent::Requested { binding, until, .. }
            | ExceptionEvent::Granted { binding, until } => {
                details.add("binding", binding).add("until", until);
            }
            ExceptionEvent::Declined { .. } => {
                details.add("ended", "declined");
            }
            ExceptionEvent::Expired { granted } => {
                details.add("ended", "expired").add("granted", granted);
            }
            ExceptionEvent::Used { by } => {
                details.add("writeback", by);
            }
            ExceptionEvent::Reviewed { finding, .. } => {
                details.add("finding", finding.as_str());
            }
        },
        Event::CallRefused(refusal) => {
            details
                .maybe("tool", refusal.tool.as_ref())
                .maybe("because", refusal.because.as_ref())
                .maybe("consent", refusal.consent.as_ref())
                .add("request", refusal.correlation);
        }
        Event::SlotsMinted { classes, .. } => {
            add_classes(details, classes);
        }
        Event::TokensResolved { tool, .. } => {
            details.add("tool", tool);
        }
        Event::DecisionRefused { decision, .. } => {
            details.add("decision", decision.as_str());
        }
        Event::TokenRevealed {
            resource, reason, ..
        } => {
            details.add("resource", resource).add("reason", reason);
        }
        Event::SlotsResolved { tool, classes, .. } => {
            details.add("tool", tool);
            add_classes(details, classes);
        }
        Event::StepUpPassed { digest } => {
            details.add("payloadSha256", digest);
        }
        Event::Passkey(event) => match event {
            PasskeyEvent::Added { credential } | PasskeyEvent::Removed { credential } => {
                details.add("credential", credential);
            }
            PasskeyEvent::Refused { credential, code } => {
                details
                    .maybe("credential", credential.as_ref())
                    .add("code", code);
            }
        },
        Event::Cover(CoverEvent::Set { cover, from, until }) => {
            details
                .add("cover", cover)
                .add("from", from)
                .add("until", until);
        }
        Event::Launch(LaunchEvent::Entered { connection, .. }) => {
            details.add("connection", connection);
        }
        Event::Launch(LaunchEvent::Refused { account, .. }) => {
            details.maybe("account", account.as_ref());
        }
        Event::PatientMail(event) => match event {
            PatientMailEvent::Sending {
                mail,
                addresses,
                until,
                ..
            } => {
                details
                    .add("mail", mail.as_str())
                    .add("addresses", addresses)
                    .maybe("until", until.as_ref());
            }
            PatientMailEvent::NotSent { mail, reason, .. } => {
                details
                    .add("mail", mail.as_str())
                    .add("reason", reason.as_str());
            }
        },
        Event::Claim(event) => match event {
            ClaimEvent::Claimed { until } => {
                details.add("until", until);
            }
            ClaimEvent::Released => {}
            ClaimEvent::TakenOver { from, until, .. } => {
                details.add("from", holder(from)).add("until", until);
            }
            ClaimEvent::HandedOver {
                to,
                until,
                instead_of,
                ..
            } => {
                details
                    .add("to", holder(to))
                    .add("until", until)
                    .maybe("instead-of", instead_of.as_ref());
            }
        },
        Event::EgressPassed {
            class,
            vendor,
            region,
            count,
            since,
            ..
        } => {
            details
                .add("dataClass", class)
                .add("vendor", vendor)
                .add("region", region)
                .add("count", count)
                .add("since", since);
        }
        Event::EgressRefused {
            class,
            vendor,
            since,
            ..
        } => {
            details
                .add("dataClass", class)
                .maybe("vendor", vendor.as_ref())
                .add("since", since);
        }
        Event::AuditUsed(used) => {
            details
                .add("used-for", used.used_for.as_str())
                .maybe("from", used.from)
                .maybe("to", used.to);
        }
        Event::Retention(event) => add_retention(details, event),
        Event::Oversight(event) => add_oversight(details, event),
        Event::Undo(UndoEvent::Started {
            selection,
            effects,
            unreadable,
            ..
        }) => {
            details
                .maybe("agent", selection.agent.as_ref())
                .maybe("model", selection.model.as_ref())
                .maybe("prompt", selection.prompt.as_ref())
                .maybe("intent", selection.intent.as_ref())
                .maybe("from", selection.from)
                .maybe("to", selection.to)
                .maybe("writeback", selection.writeback)
                .add("effects", effects)
                .add("unreadable", unreadable);
        }
        Event::Cohort(event) => add_cohort(details, event),
        Event::Undo(UndoEvent::Finished { counts }) => {
            details
                .add("undone", counts.undone)
                .add("set-aside", counts.set_aside)
                .add("withdrawn", counts.withdrawn)
                .add("nothing", counts.nothing)
                .add("with-a-person", counts.person);
        }
        Event::Writeback(event) => add_writeback(details, event),
        _ => {}
    }
}

fn add_cohort(details: &mut Details, event: &CohortEvent) {
    match event {
        CohortEvent::Listed(list) => {
            details
                .add("cohort", &list.cohort)
                .add("agent", &list.agent)
                .add("intent", &list.intent)
                .add("bundle", list.bundle)
                .add("list", list.list)
                .add("listed", list.listed)
                .add("until", list.until);
            for (because, count) in &list.removed {
                details.add("removed", format!("{} {count}", because.as_str()));
            }
        }
        CohortEvent::Struck { list, listed, .. } | CohortEvent::Approved { list, listed } => {
            details.add("list", list).add("listed", listed);
        }
        CohortEvent::LeftOut { because, grant, .. } => {
            details
                .add("because", because.as_str())
                .maybe("grant", *grant);
        }
        CohortEvent::Ended { cause, counts } => {
            details
                .add("cause", cause.words())
                .add("used", counts.used)
                .add("unused", counts.unused)
                .add("left-out", counts.left_out);
        }
    }
}

fn add_oversight(details: &mut Details, event: &OversightEvent) {
    let whose = |details: &mut Details, combination: &Combination| {
        let prompts: Vec<&str> = combination.prompts.iter().map(|it| it.as_str()).collect();
        details
            .add("intent", &combination.intent)
            .maybe("row", combination.row.as_ref())
            .add("model", &combination.model)
            .add("prompts", prompts.join(" "));
    };
    match event {
        OversightEvent::Sampled => {}
        OversightEvent::Reviewed { verdict, .. } => {
            details.add("verdict", verdict.as_str());
        }
        OversightEvent::Demoted {
            combination,
            reviewed,
            disagreed,
        } => {
            whose(details, combination);
            details
                .add("reviewed", reviewed)
                .add("disagreed", disagreed);
        }
        OversightEvent::Restored { combination, .. } => whose(details, combination),
        OversightEvent::Paused {
            limit,
            approvals,
            median_ms,
            until,
        } => {
            details
                .add("limit", limit.as_str())
                .add("approvals", approvals)
                .add("median-ms", median_ms)
                .add("until", until);
        }
        OversightEvent::Overdue { step, roles } => {
            let roles: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
            details.add("step", step).add("told", roles.join(" "));
        }
    }
}

fn add_retention(details: &mut Details, event: &RetentionEvent) {
    match event {
        RetentionEvent::Deleted(deletion) => {
            details
                .add("artefact", &deletion.artefact)
                .add("rule", &deletion.rule)
                .add("rules", deletion.rules)
                .add("count", deletion.count)
                .add("manifest", deletion.manifest);
        }
        RetentionEvent::HoldPlaced { patient, .. }
        | RetentionEvent::HoldReleased { patient, .. } => {
            details.add(
                "holds",
                if patient.is_some() {
                    "a patient"
                } else {
                    "everything"
                },
            );
        }
        RetentionEvent::ShredStarted { rules, .. } => {
            details.add("rules", rules);
        }
        RetentionEvent::ShredEnded(shredded) | RetentionEvent::ShredReplayed(shredded) => {
            details
                .add("keys", shredded.keys.len())
                .add("payloads", shredded.payloads)
                .add("rows", shredded.records.values().sum::<u64>())
                .add("manifest", shredded.manifest);
        }
    }
}

/// How many slots of each class; never what they stand for.
fn add_classes(details: &mut Details, classes: &BTreeMap<String, u32>) {
    let counts: Vec<String> = classes
        .iter()
        .map(|(class, count)| format!("{class} {count}"))
        .collect();
    details.add("slots", counts.join(","));
}

fn add_writeback(details: &mut Details, event: &WritebackEvent) {
    use WritebackEvent as E;
    match event {
        E::Ruled { ruling, order } => {
            let policies: Vec<&str> = ruling.determining.iter().map(|id| id.as_str()).collect();
            details
                .add("ruled", ruling.gate.level().as_str())
                .add("policies", policies.join(","))
                .add("bundle", ruling.bundle)
                .add("payloadSha256", order.digest);
        }
        E::Approved { approval } => {
            details
                .add("payloadSha256", approval.digest)
                .maybe("secondFactor", name_of_factor(&approval.factor))
                .maybe("overrideReason", approval.override_reason.as_ref())
                .add("reviewMs", approval.review_ms);
        }
        E::DeliveryStarted(start) => {
            details
                .add("payloadSha256", start.digest)
                .add("attempt", start.attempt)
                .add("epoch", start.epoch);
        }
        E::Delivered(receipt) | E::DraftPlaced(receipt) => {
            details
                .add("proof", receipt.proof)
                .maybe("readBack", receipt.read_back)
                .maybe("attestedBy", receipt.attested_by)
                .add("provenance", receipt.provenance_written);
        }
        E::FoundNotApplied { basis, .. } => {
            details.maybe(
                "basis",
                serde_json::to_value(basis).ok().and_then(|basis| {
                    basis
                        .get("basis")
                        .and_then(Value::as_str)
                        .map(str::to_owned)
                }),
            );
        }
        E::Compensated { by } | E::Promoted { by } => {
            details.add("by", by);
        }
        E::Quarantined { reason } => {
            details.maybe("reason", name_of(reason));
        }
        E::CanarySeeded(seed) => {
            details
                .add("canary", &seed.mark.canary)
                .add("pool", seed.mark.pool);
        }
        E::CanaryMissed(miss) => {
            details.add("reviewMs", miss.review_ms);
        }
        E::CanaryWithdrawn(end) => {
            details.maybe(
                "reason",
                serde_json::to_value(end)
                    .ok()
                    .and_then(|end| end.get("why").and_then(Value::as_str).map(str::to_owned)),
            );
        }
        _ => {}
    }
}

/// Who has a write-back in hand: an account, or a role.
fn holder(holder: &ClaimHolder) -> String {
    match holder {
        ClaimHolder::Person { account, .. } => account.to_string(),
        ClaimHolder::Pool { role } => format!("role {role}"),
    }
}

fn name_of_factor(factor: &chaperone_core::evidence::Factor) -> Option<String> {
    match factor {
        chaperone_core::evidence::Factor::None => None,
        chaperone_core::evidence::Factor::Totp { at } => Some(format!("totp at {at}")),
        chaperone_core::evidence::Factor::EhrSignature { at } => {
            Some(format!("signature in the EHR at {at}"))
        }
        chaperone_core::evidence::Factor::Passkey { at, credential } => {
            Some(format!("passkey {credential} at {at}"))
        }
    }
}
