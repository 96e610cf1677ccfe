//! Tests of the core segment by segment; `script` is their vocabulary.

mod script;

mod capable;
mod golden_client;
mod golden_server;
mod join;
