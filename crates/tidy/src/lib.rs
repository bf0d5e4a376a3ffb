//! Nothing but a home for `tests/tidy`, which checks the shape of this repository: layering, names,
//! module documents, migration parity, links and the requirements table.
//!
//! A crate of its own, so that these checks build in seconds and depend on no other crate.
