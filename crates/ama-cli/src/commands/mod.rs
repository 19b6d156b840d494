//! One file per subcommand.

pub(crate) mod arguments;
pub(crate) mod cluster;
pub(crate) mod data;
pub(crate) mod eval;
pub(crate) mod generate;
pub(crate) mod merge;
pub(crate) mod report;
pub(crate) mod run;
pub(crate) mod score;
pub(crate) mod sft;
pub(crate) mod specialist;
pub(crate) mod suite;
pub(crate) mod train;
pub(crate) mod watch;
