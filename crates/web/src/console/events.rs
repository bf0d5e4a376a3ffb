//! Live updates: server-sent events that say that something changed, and never what.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use chaperone_engine::people::SecondFactor;
use chaperone_engine::people::sessions::Touch;
use futures::Stream;
use futures::stream;

use super::ConsoleState;
use super::refusal::Refusal;

/// Shortest time between two events, in milliseconds: a burst of changes is one event.
const PAUSE_MS: u64 = 500;
/// How often a line without an event keeps the connection open, in seconds.
const KEEP_ALIVE_S: u64 = 15;

/// Follows changes until the session ends or the browser goes away.
pub(super) async fn follow(
    State(state): State<ConsoleState>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Refusal> {
    let token = state.cookies.token(&headers).ok_or(Refusal::SignInLive)?;
    let signed_in = state.engine.session(&token, Touch::No).await?;
    if signed_in.is_none_or(|someone| someone.second_factor == SecondFactor::Missing) {
        return Err(Refusal::SignInLive);
    }
    let permit =
        state.live_pages.clone().try_acquire_owned().map_err(|_| {
            Refusal::Unavailable("Too many pages follow changes; reload now and then.")
        })?;
    let mut changes = state.engine.changes();
    // What changed between the page's making and this connection would otherwise be missed.
    changes.mark_changed();
    let events = stream::unfold(
        Some((state, token, changes, permit)),
        |following| async move {
            let (state, token, mut changes, permit) = following?;
            changes.changed().await.ok()?;
            tokio::time::sleep(Duration::from_millis(PAUSE_MS)).await;
            let ticks = *changes.borrow_and_update();
            // Following a page is no activity: the session ends on time.
            let still_there = matches!(state.engine.session(&token, Touch::No).await, Ok(Some(_)));
            let event = if still_there {
                Event::default().event("change").data(ticks.to_string())
            } else {
                Event::default().event("end").data("session")
            };
            Some((
                Ok(event),
                still_there.then_some((state, token, changes, permit)),
            ))
        },
    );
    let keep_alive = KeepAlive::new().interval(Duration::from_secs(KEEP_ALIVE_S));
    Ok(Sse::new(events).keep_alive(keep_alive))
}
