//! One file per subcommand.

pub(crate) mod agent_key;
pub(crate) mod check;
pub(crate) mod init;
pub(crate) mod ledger;
