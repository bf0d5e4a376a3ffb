//! When two forms of a resource say the same; defined in the core, because orders carry the digest.

pub use chaperone_core::content::{content_digest, same_content};
