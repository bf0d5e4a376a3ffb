//! What writes log lines: our own events with their listed fields, and of libraries only that they warned.
//!
//! A line is put together from what passed [`fields::admit`] and from nothing else, so that what a line of the
//! code, a library or a panic has in hand cannot reach the log by being named differently. Messages are fixed
//! texts; `crates/tidy` sees to that. Libraries are silent below warnings whatever level is set, because their
//! words quote requests, rows and frames.
//!
//! Start at [`journal`].

use std::fmt;
use std::io::Write as _;

use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::span;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::layer::{Context, Filter};
use tracing_subscriber::registry::LookupSpan;

use super::fields::{self, Dropped, Said, Shown};

/// Counter of what was left out: `what` is `field`, `value` or `library`.
const LEFT_OUT_TOTAL: &str = "chaperone_log_left_out_total";

/// Our own crates: what they log is read in this repository.
const OURS: [&str; 12] = [
    "chaperone",
    "chaperone_connect",
    "chaperone_core",
    "chaperone_engine",
    "chaperone_fhir",
    "chaperone_ledger",
    "chaperone_phi",
    "chaperone_policy",
    "chaperone_sandbox",
    "chaperone_store",
    "chaperone_testkit",
    "chaperone_web",
];

/// What stands in place of a library's words.
const LIBRARY_SPOKE: &str = "a library warned; its words are left out";

/// Writes log lines of a level and above, as JSON or as text.
pub(crate) fn journal<S, W>(level: LevelFilter, json: bool, writer: W) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'w> MakeWriter<'w> + 'static,
{
    Journal { json, writer }.with_filter(Gate { level })
}

/// The name of the crate that speaks.
fn crate_of(target: &str) -> &str {
    target.split("::").next().unwrap_or(target)
}

fn is_ours(target: &str) -> bool {
    OURS.contains(&crate_of(target))
}

/// Libraries' warnings and our own words up to a level.
struct Gate {
    level: LevelFilter,
}

impl Gate {
    fn passes(&self, metadata: &Metadata<'_>) -> bool {
        let level = *metadata.level();
        let is_warning = level <= Level::WARN && metadata.is_event();
        level <= self.level && (is_ours(metadata.target()) || is_warning)
    }
}

impl<S> Filter<S> for Gate {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        self.passes(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }
}

struct Journal<W> {
    json: bool,
    writer: W,
}

/// The fields of a span or an event that may be shown.
#[derive(Clone, Default)]
struct Kept {
    message: Option<String>,
    fields: Vec<(&'static str, Shown)>,
    left_out: u64,
}

impl Kept {
    fn take(&mut self, field: &Field, said: Said<'_>) {
        match fields::admit(field.name(), said) {
            Ok(shown) => match self.fields.iter_mut().find(|it| it.0 == field.name()) {
                Some(there) => there.1 = shown,
                None => self.fields.push((field.name(), shown)),
            },
            Err(dropped) => self.leave_out(match dropped {
                Dropped::Field => "field",
                Dropped::Value => "value",
            }),
        }
    }

    fn leave_out(&mut self, what: &'static str) {
        self.left_out = self.left_out.saturating_add(1);
        metrics::counter!(LEFT_OUT_TOTAL, "what" => what).increment(1);
    }
}

/// Shows by `Display` what was given by `Debug`, as `%value` is.
struct Debugged<'v>(&'v dyn fmt::Debug);

impl fmt::Display for Debugged<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Visit for Kept {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let value = Debugged(value);
        if field.name() == "message" {
            self.message = fields::bounded(&value, fields::MESSAGE_BYTES_MAX);
            if self.message.is_none() {
                self.leave_out("value");
            }
        } else {
            self.take(field, Said::Text(&value));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.take(field, Said::Text(&value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.take(field, Said::Number(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        let said = u64::try_from(value).map_or(Said::Other, Said::Number);
        self.take(field, said);
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        let said = u64::try_from(value).map_or(Said::Other, Said::Number);
        self.take(field, said);
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        let said = u64::try_from(value).map_or(Said::Other, Said::Number);
        self.take(field, said);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.take(field, Said::Flag(value));
    }

    fn record_f64(&mut self, field: &Field, _value: f64) {
        self.take(field, Said::Other);
    }

    fn record_bytes(&mut self, field: &Field, _value: &[u8]) {
        self.take(field, Said::Other);
    }
}

impl<S, W> Layer<S> for Journal<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'w> MakeWriter<'w> + 'static,
{
    fn on_new_span(&self, fields: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        let mut kept = Kept::default();
        fields.record(&mut kept);
        if let Some(span) = context.span(id) {
            span.extensions_mut().replace(kept);
        }
    }

    fn on_record(&self, id: &span::Id, fields: &span::Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(kept) = span.extensions_mut().get_mut::<Kept>()
        {
            fields.record(kept);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let metadata = event.metadata();
        let mut kept = Kept::default();
        if is_ours(metadata.target()) {
            event.record(&mut kept);
        } else {
            kept.leave_out("library");
            kept.message = Some(LIBRARY_SPOKE.to_owned());
        }
        let mut line = Line {
            level: *metadata.level(),
            target: if is_ours(metadata.target()) {
                metadata.target()
            } else {
                crate_of(metadata.target())
            },
            kept,
            spans: Vec::new(),
        };
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(kept) = span.extensions().get::<Kept>() {
                line.spans.push((span.name(), kept.clone()));
            }
        }
        let text = if self.json { line.json() } else { line.text() };
        // Nobody is left to be told when the log cannot be written.
        let _ = self
            .writer
            .make_writer_for(metadata)
            .write_all(text.as_bytes());
    }
}

/// One line. Spans from the innermost on.
struct Line<'e> {
    level: Level,
    target: &'e str,
    kept: Kept,
    spans: Vec<(&'static str, Kept)>,
}

impl Line<'_> {
    fn timestamp() -> String {
        let mut text = String::new();
        // A clock that cannot be read leaves the place empty.
        let _ = SystemTime.format_time(&mut Writer::new(&mut text));
        text
    }

    fn left_out(&self) -> u64 {
        let spans = self.spans.iter().map(|(_, kept)| kept.left_out);
        spans.fold(self.kept.left_out, u64::saturating_add)
    }

    fn json(mut self) -> String {
        let left_out = self.left_out();
        let mut fields = Map::new();
        if let Some(message) = self.kept.message.take() {
            fields.insert("message".to_owned(), message.into());
        }
        let members = |kept: Vec<(&'static str, Shown)>| {
            kept.into_iter()
                .map(|(name, shown)| (name.to_owned(), Value::from(shown)))
        };
        fields.extend(members(self.kept.fields));
        let mut line = json!({
            "timestamp": Self::timestamp(),
            "level": self.level.as_str(),
            "fields": fields,
            "target": self.target,
        });
        let mut further = Map::new();
        if let Some((name, kept)) = self.spans.into_iter().next() {
            let mut span = Map::new();
            span.insert("name".to_owned(), name.into());
            span.extend(members(kept.fields));
            further.insert("span".to_owned(), Value::Object(span));
        }
        if left_out > 0 {
            further.insert("left_out".to_owned(), left_out.into());
        }
        if let Value::Object(line) = &mut line {
            line.extend(further);
        }
        format!("{line}\n")
    }

    fn text(self) -> String {
        let left_out = self.left_out();
        let mut line = format!("{} {:>5} ", Self::timestamp(), self.level.as_str());
        for (name, kept) in self.spans.iter().rev() {
            let fields: Vec<String> = kept.fields.iter().map(pair).collect();
            line.push_str(&format!("{name}{{{}}}: ", fields.join(" ")));
        }
        line.push_str(self.target);
        line.push_str(": ");
        line.push_str(self.kept.message.as_deref().unwrap_or_default());
        for field in &self.kept.fields {
            line.push(' ');
            line.push_str(&pair(field));
        }
        if left_out > 0 {
            line.push_str(&format!(" left_out={left_out}"));
        }
        line.push('\n');
        line
    }
}

fn pair((name, shown): &(&'static str, Shown)) -> String {
    format!("{name}={shown}")
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    const ID: &str = "req_00112233445566778899aabbccddeeff";

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Page {
        type Writer = Page;

        fn make_writer(&self) -> Page {
            self.clone()
        }
    }

    /// What the log says of some events, without times.
    fn logged(level: LevelFilter, json: bool, say: impl FnOnce()) -> String {
        let page = Page::default();
        let subscriber = tracing_subscriber::registry().with(journal(level, json, page.clone()));
        tracing::subscriber::with_default(subscriber, say);
        let text = String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
        text.lines()
            .map(|line| {
                let line = match line.split_once("\"level\"") {
                    Some((_, rest)) => format!("{{\"level\"{rest}"),
                    None => line.split_once(' ').unwrap().1.trim_start().to_owned(),
                };
                line + "\n"
            })
            .collect()
    }

    fn request(say: impl FnOnce()) {
        let span = tracing::info_span!(
            target: "chaperone_web::gateway",
            "agent_request",
            correlation = %ID,
            patient = "Grace Wood",
            status = tracing::field::Empty,
        );
        span.record("status", 200_u16);
        span.in_scope(say);
    }

    #[test]
    fn listed_fields_of_our_own_appear_and_others_are_left_out_and_counted() {
        let say = || {
            request(|| {
                tracing::info!(target: "chaperone_engine::read", code = "ok", mrn = "QX-7731", "answered");
            });
        };
        assert_eq!(
            logged(LevelFilter::INFO, true, say),
            format!(
                "{{\"level\":\"INFO\",\"fields\":{{\"message\":\"answered\",\"code\":\"ok\"}},\
                 \"target\":\"chaperone_engine::read\",\"span\":{{\"name\":\"agent_request\",\
                 \"correlation\":\"{ID}\",\"status\":200}},\"left_out\":2}}\n"
            )
        );
        assert_eq!(
            logged(LevelFilter::INFO, false, say),
            format!(
                "INFO agent_request{{correlation={ID} status=200}}: chaperone_engine::read: \
                 answered code=ok left_out=2\n"
            )
        );
    }

    #[test]
    fn a_value_of_another_form_than_its_field_has_is_left_out() {
        let said = logged(LevelFilter::DEBUG, true, || {
            let failed = io::Error::other("no row for Grace Wood <grace@clinic.example>");
            tracing::debug!(target: "chaperone_store", error = %failed, "it failed");
            tracing::debug!(target: "chaperone_store", error = &failed as &dyn std::error::Error, "it failed");
            tracing::debug!(target: "chaperone_store", error = ?("Grace", "Wood"), "it failed");
            tracing::debug!(target: "chaperone_store", status = 9_705_550_187_u64, "it failed");
            tracing::debug!(target: "chaperone_store", status = 1.5, "it failed");
        });
        assert_eq!(said.matches("it failed").count(), 5, "{said}");
        assert_eq!(said.matches("\"left_out\":1").count(), 5, "{said}");
        assert!(!said.contains("Grace") && !said.contains("555"), "{said}");
    }

    #[test]
    fn what_a_library_says_is_dropped_at_every_level_and_that_it_warned_is_not() {
        let said = logged(LevelFilter::TRACE, true, || {
            tracing::trace!(target: "hyper::proto::h1", "parsed 2 headers for Grace Wood");
            tracing::debug!(target: "reqwest::connect", "starting new connection: https://ehr.example/Patient?name=Wood");
            tracing::info!(target: "tokio_postgres", parameters = "Wood", "executing");
            tracing::debug!(target: "chaperones", "a name that only begins like ours: Wood");
            tracing::warn!(target: "rustls::conn", name = "Wood", code = "ok", "alert for Wood");
            tracing::debug!(target: "chaperone_connect::ehr", status = 200_u16, "the EHR answered a write");
        });
        assert_eq!(
            said,
            "{\"level\":\"WARN\",\"fields\":{\"message\":\"a library warned; its words are left out\"},\
             \"target\":\"rustls\",\"left_out\":1}\n\
             {\"level\":\"DEBUG\",\"fields\":{\"message\":\"the EHR answered a write\",\"status\":200},\
             \"target\":\"chaperone_connect::ehr\"}\n"
        );
    }

    #[test]
    fn a_level_that_is_not_asked_for_is_silent() {
        let said = logged(LevelFilter::WARN, true, || {
            tracing::info!(target: "chaperone", "quiet");
            tracing::warn!(target: "chaperone", "heard");
            tracing::warn!(target: "h2", "heard");
        });
        assert_eq!(said.lines().count(), 2, "{said}");
        let said = logged(LevelFilter::ERROR, true, || {
            tracing::warn!(target: "h2", "quiet");
            tracing::error!(target: "h2", "heard");
        });
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}
