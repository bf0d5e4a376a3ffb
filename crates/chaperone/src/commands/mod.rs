//! One file per subcommand.

pub(crate) mod agent_key;
pub(crate) mod audit;
pub(crate) mod bench;
pub(crate) mod check;
pub(crate) mod cohort;
pub(crate) mod conformance;
pub(crate) mod dataflow;
pub(crate) mod deid;
pub(crate) mod doctor;
pub(crate) mod exception;
pub(crate) mod init;
pub(crate) mod inventory;
pub(crate) mod keys;
pub(crate) mod ledger;
pub(crate) mod matrix;
pub(crate) mod oversight;
pub(crate) mod packages;
pub(crate) mod person;
pub(crate) mod replay;
pub(crate) mod retention;
pub(crate) mod scrub;
pub(crate) mod serve;
pub(crate) mod shred;
pub(crate) mod simulate;
pub(crate) mod undo;
pub(crate) mod validate;
