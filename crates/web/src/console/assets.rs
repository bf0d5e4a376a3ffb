//! The stylesheet and the scripts: compiled in, the same for everybody.

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};

const STYLESHEET: &str = include_str!("../../static/console.css");
const PASSKEYS: &str = include_str!("../../static/passkeys.js");
const SCRIPT: &str = include_str!("../../static/console.js");
/// Short, so that a new version reaches every page soon.
const CACHE: &str = "private, max-age=300";

pub(super) async fn stylesheet() -> Response {
    (
        [
            (CONTENT_TYPE, "text/css; charset=utf-8"),
            (CACHE_CONTROL, CACHE),
        ],
        STYLESHEET,
    )
        .into_response()
}

pub(super) async fn passkeys() -> Response {
    javascript(PASSKEYS)
}

pub(super) async fn script() -> Response {
    javascript(SCRIPT)
}

fn javascript(script: &'static str) -> Response {
    (
        [
            (CONTENT_TYPE, "text/javascript; charset=utf-8"),
            (CACHE_CONTROL, CACHE),
        ],
        script,
    )
        .into_response()
}
