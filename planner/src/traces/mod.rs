//! The traces of shards: what each of several machines leaves behind in a [`file`] for one plan, and how they are put
//! together ([`merge`]).

pub(crate) mod file;
pub(crate) mod merge;
