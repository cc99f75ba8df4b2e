//! The HTTP server of Watchfold: one listener, its limits, who may pass, and the headers of every answer.
//!
//! A part mounts its [`Routes`] and names the [`Permission`] of each. The server checks it before a handler runs, and hands the
//! handler an [`Access`]: who asks, in which role, for which sites. It knows no log, no projection and nothing of what is served.

mod access;
mod auth;
mod error;
mod guard;
mod hosts;
mod requests;
mod routes;
mod server;
mod sessions;

pub use access::{Access, Permission, Role, Scope};
pub use error::{ApiError, ErrorAnswer};
pub use requests::Requests;
pub use routes::{Declared, Routes};
pub use server::{
    CONNECTIONS_MAX, HEAD_BYTES_MAX, Io, Server, ServerOptions, Socket, UPGRADED_MAX, WebError,
};
pub use watchfold_kit::places::Places;
