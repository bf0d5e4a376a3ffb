//! How a patient wishes to be reached: one channel for one purpose, by what they agreed to and what is on record.
//!
//! A preference is a Consent of its own category; R4 has no element for it. Without one, only the channels count
//! that the table opens (portal and letter). An opt-out counts at once, and what cannot be read refuses every
//! channel. Agents do not write to minors, nor in a language that the patient does not prefer. Not here: quiet hours
//! ([`super::hours`]) and how often. Start at [`may_contact`].
//!
//! # Source
//! Requirement R062; 47 CFR 64.1200 for calls and texts.

use chaperone_core::Timestamp;
use jiff::SignedDuration;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::Value;

use super::criteria::Match;
use super::directive::{Directive, Kind, Rule};
use super::period::Span;
use super::table::{Channel, ConsentTable};
use super::weigh::{Said, walk, without_replaced};
use super::{Consents, Denial};

/// Most media or categories of a message that are looked at.
const VALUES_MAX: usize = 20;

/// The time zone that is farthest behind UTC.
const FARTHEST_BEHIND_UTC: SignedDuration = SignedDuration::from_hours(12);

/// One message to a patient, as far as their wishes go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contact {
    /// The channel, a code of the table.
    pub channel: String,
    /// What it is about, a code of the table.
    pub purpose: String,
}

/// What a permission to reach the patient rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContactBasis {
    /// What holds when the patient has said nothing.
    WithoutPreference,
    /// Preferences, by the logical ids of their Consents.
    Preferences(Vec<String>),
}

/// Why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ContactDenial {
    /// The message names no channel, or one that is not listed.
    #[error("channel-unknown")]
    ChannelUnknown,
    /// The patient opted out.
    #[error("contact-opted-out")]
    OptedOut,
    /// The patient has not agreed to this channel for this.
    #[error("contact-not-agreed")]
    NotAgreed,
    /// There is nothing in use to reach them by.
    #[error("contact-point-missing")]
    NoContactPoint,
    /// A Consent cannot be read, and might be an opt-out.
    #[error("contact-unclear")]
    Unclear,
    /// The patient is a minor, or nobody knows that they are not: a person decides whom to reach.
    #[error("contact-minor")]
    Minor,
    /// The message says that it is in a language other than those the patient prefers.
    #[error("contact-language")]
    Language,
}

/// What a Communication or CommunicationRequest would do: each channel with each purpose.
///
/// # Errors
/// [`ContactDenial::ChannelUnknown`]: a medium is missing, unlisted or cannot be read.
pub fn contacts_of(table: &ConsentTable, message: &Value) -> Result<Vec<Contact>, ContactDenial> {
    let unknown = ContactDenial::ChannelUnknown;
    let media = message.get("medium").and_then(Value::as_array);
    let media = media.filter(|all| (1..=VALUES_MAX).contains(&all.len()));
    let mut channels = Vec::new();
    for medium in media.ok_or(unknown)? {
        // A medium of several codings is one channel: each coding must be known and they must agree.
        let codings = medium.get("coding").and_then(Value::as_array);
        let mut named: Vec<&str> = codings
            .filter(|all| (1..=VALUES_MAX).contains(&all.len()))
            .ok_or(unknown)?
            .iter()
            .map(|coding| channel_of(table, coding))
            .collect::<Option<_>>()
            .ok_or(unknown)?;
        named.dedup();
        channels.extend(named);
    }
    let purposes = purposes_of(table, message);
    Ok(channels
        .iter()
        .flat_map(|channel| {
            purposes.iter().map(|purpose| Contact {
                channel: (*channel).to_owned(),
                purpose: purpose.clone(),
            })
        })
        .collect())
}

fn channel_of<'t>(table: &'t ConsentTable, coding: &Value) -> Option<&'t str> {
    let contact = &table.contact;
    let system = coding.get("system").and_then(Value::as_str)?;
    let code = coding.get("code").and_then(Value::as_str)?;
    let code = if system == contact.channel_system {
        code
    } else {
        let media = contact.media.iter().find(|media| media.system == system)?;
        media.codes.get(code)?
    };
    let listed = contact.channels.iter().find(|it| it.code == code)?;
    Some(&listed.code)
}

/// What a message says it is about; the strictest when it does not say, or says something else beside.
fn purposes_of(table: &ConsentTable, message: &Value) -> Vec<String> {
    let contact = &table.contact;
    let categories = message.get("category").and_then(Value::as_array);
    let codings = categories
        .into_iter()
        .flatten()
        .take(VALUES_MAX)
        .filter_map(|category| category.get("coding")?.as_array())
        .flatten()
        .take(VALUES_MAX);
    let ours = codings.filter(|coding| {
        coding.get("system").and_then(Value::as_str) == Some(contact.purpose_system.as_str())
    });
    let mut purposes: Vec<String> = Vec::new();
    for coding in ours {
        let code = coding
            .get("code")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let known = contact.purposes.iter().find(|it| it.code == code);
        purposes.push(known.map_or(&contact.unsaid_purpose, |it| &it.code).clone());
    }
    if purposes.is_empty() {
        purposes.push(contact.unsaid_purpose.clone());
    }
    purposes
}

/// Whether the table lists a channel and a purpose.
pub fn is_contact(table: &ConsentTable, wanted: &Contact) -> bool {
    let contact = &table.contact;
    contact.channels.iter().any(|it| it.code == wanted.channel)
        && contact.purposes.iter().any(|it| it.code == wanted.purpose)
}

/// Whether a patient may be reached so. The Consents are those of the patient, the Patient as the EHR has it now.
///
/// # Errors
/// [`ContactDenial`].
pub fn may_contact(
    table: &ConsentTable,
    consents: &Consents,
    patient: &Value,
    wanted: &Contact,
    now: Timestamp,
) -> Result<ContactBasis, ContactDenial> {
    let contact = &table.contact;
    let channel = contact
        .channels
        .iter()
        .find(|it| it.code == wanted.channel)
        .ok_or(ContactDenial::ChannelUnknown)?;
    if consents.unclear.is_some() {
        return Err(ContactDenial::Unclear);
    }
    let preferences: Vec<&Directive> = consents
        .directives
        .iter()
        .filter(|it| it.has_category(&contact.category_system, &contact.category))
        .filter(|it| it.root.period.is_none_or(|span| span.holds(now)))
        .collect();
    let mut agreed = Vec::new();
    for preference in without_replaced(table, &preferences) {
        let matches = |rule: &Rule, _: Kind| matches(table, rule, wanted, now);
        match walk(table, preference, &matches) {
            Err(Denial::Unclear(_)) => return Err(ContactDenial::Unclear),
            Err(_) | Ok(Said::Denies) => return Err(ContactDenial::OptedOut),
            // That somebody opted out of one channel is no agreement to the others.
            Ok(Said::Permits(permission)) if permission.names_class => {
                agreed.push(preference.id.clone());
            }
            Ok(Said::Permits(_) | Said::Nothing) => {}
        }
    }
    if !is_of_age(table, patient, now) {
        return Err(ContactDenial::Minor);
    }
    let is_open = channel.without_preference.contains(&wanted.purpose);
    if agreed.is_empty() && !is_open {
        return Err(ContactDenial::NotAgreed);
    }
    if !has_contact_point(channel, patient, now) {
        return Err(ContactDenial::NoContactPoint);
    }
    Ok(if agreed.is_empty() {
        ContactBasis::WithoutPreference
    } else {
        ContactBasis::Preferences(agreed)
    })
}

/// Whether a wish is about this: channel and purpose as named, now. Anything else that it names cannot be told.
fn matches(table: &ConsentTable, rule: &Rule, wanted: &Contact, now: Timestamp) -> Match {
    let contact = &table.contact;
    if rule.period.is_some_and(|period| !period.holds(now)) {
        return Match::No;
    }
    let channels: Vec<&str> = rule.classes.iter().map(|it| it.code.as_str()).collect();
    let is_ours = |system: &String| *system == contact.channel_system;
    let is_channel = channels.is_empty() || channels.contains(&wanted.channel.as_str());
    let codings: Vec<_> = rule.codes.iter().flat_map(|it| &it.codings).collect();
    let is_purpose = (codings.is_empty() && rule.codes.is_empty())
        || codings.iter().any(|it| it.code == wanted.purpose);
    let is_foreign = rule.classes.iter().any(|it| !is_ours(&it.system))
        || rule.codes.iter().any(|it| it.codings.is_empty())
        || codings.iter().any(|it| it.system != contact.purpose_system)
        || !rule.actors.is_empty()
        || !rule.labels.is_empty()
        || !rule.data.is_empty()
        || rule.data_period.is_some();
    match (is_foreign, is_channel && is_purpose) {
        (true, _) => Match::Unknown,
        (false, true) => Match::Yes,
        (false, false) => Match::No,
    }
}

/// Whether a patient is certainly of age: of a birth date in part, the latest day counts, and today is taken where
/// it is still yesterday.
///
/// # Source
/// 45 CFR 164.502(g)(3): who acts for a minor is a question of state law, and so for people.
pub fn is_of_age(table: &ConsentTable, patient: &Value, now: Timestamp) -> bool {
    let years = table.contact.minor_below_years;
    let text = patient.get("birthDate").and_then(Value::as_str);
    let Some(born) = text.and_then(latest_day) else {
        return false;
    };
    let today = now
        .checked_sub(FARTHEST_BEHIND_UTC)
        .unwrap_or(now)
        .to_zoned(TimeZone::UTC)
        .date();
    let since = born.checked_add(jiff::Span::new().years(i64::from(years)));
    since.is_ok_and(|of_age| of_age <= today)
}

/// The latest day that a FHIR date can mean.
fn latest_day(text: &str) -> Option<Date> {
    let mut parts = text.split('-');
    let year: i16 = parts.next()?.parse().ok()?;
    let month = parts.next();
    let day = parts.next();
    let month: i8 = month.map_or(Some(12), |it| it.parse().ok())?;
    let first = Date::new(year, month, 1).ok()?;
    match day {
        Some(day) => Date::new(year, month, day.parse().ok()?).ok(),
        None => Some(first.last_of_month()),
    }
}

/// Whether a message is in a language that the patient prefers, as far as both are said.
///
/// # Errors
/// [`ContactDenial::Language`].
pub fn speaks_to(patient: &Value, message: &Value) -> Result<(), ContactDenial> {
    let Some(language) = message.get("language").and_then(Value::as_str) else {
        return Ok(());
    };
    let primary = |tag: &str| {
        let primary = tag.split(['-', '_']).next().unwrap_or(tag);
        primary.to_ascii_lowercase()
    };
    let spoken = patient.get("communication").and_then(Value::as_array);
    let mut preferred = spoken
        .into_iter()
        .flatten()
        .filter(|it| it.get("preferred").and_then(Value::as_bool) == Some(true))
        .filter_map(|it| it.pointer("/language/coding")?.as_array())
        .flatten()
        .filter_map(|coding| coding.get("code")?.as_str())
        .take(VALUES_MAX)
        .peekable();
    let says_nothing = preferred.peek().is_none();
    if says_nothing || preferred.any(|code| primary(code) == primary(language)) {
        return Ok(());
    }
    Err(ContactDenial::Language)
}

fn has_contact_point(channel: &Channel, patient: &Value, now: Timestamp) -> bool {
    if channel.telecom.is_empty() {
        return true;
    }
    let text = |point: &Value, name: &str| {
        point
            .get(name)
            .and_then(Value::as_str)
            .map(str::to_owned)
            .unwrap_or_default()
    };
    let is_in_use = |point: &&Value| {
        let period = match point.get("period") {
            None => true,
            Some(period) => Span::of_period(period).is_some_and(|span| span.holds(now)),
        };
        period && text(point, "use") != "old" && !text(point, "value").is_empty()
    };
    let points = patient.get("telecom").and_then(Value::as_array);
    points
        .into_iter()
        .flatten()
        .filter(is_in_use)
        .any(|point| channel.telecom.contains(&text(point, "system")))
}
