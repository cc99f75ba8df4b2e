//! The routes of a part, each with the permission that it needs.

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::handler::Handler;
use axum::middleware::{Next, from_fn};
use axum::response::IntoResponse;
use axum::routing::{MethodFilter, MethodRouter, on};

use crate::{Access, ApiError, Permission};

/// The largest request body.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// What a mounted route declares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Declared {
    pub permission: Permission,
    /// It changes something or opens a stream: a browser must ask from the page's own origin.
    pub is_guarded: bool,
}

/// Path and method of every route, and what it declares.
pub type Table = BTreeMap<(&'static str, &'static str), Declared>;

/// Routes with their permissions. A route without one cannot be mounted.
pub struct Routes<S = ()> {
    router: Router<S>,
    table: Table,
}

impl<S: Clone + Send + Sync + 'static> Default for Routes<S> {
    fn default() -> Routes<S> {
        Routes::new()
    }
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    pub fn new() -> Routes<S> {
        Routes {
            router: Router::new(),
            table: Table::new(),
        }
    }

    /// Mounts something that is read.
    pub fn get<H, T>(self, path: &'static str, permission: Permission, handler: H) -> Routes<S>
    where
        H: Handler<T, S>,
        T: 'static,
    {
        let declared = Declared {
            permission,
            is_guarded: false,
        };
        self.mount(path, "GET", declared, on(MethodFilter::GET, handler))
    }

    /// Mounts a WebSocket. Browsers open these for any page, so the origin is checked.
    pub fn socket<H, T>(self, path: &'static str, permission: Permission, handler: H) -> Routes<S>
    where
        H: Handler<T, S>,
        T: 'static,
    {
        let declared = Declared {
            permission,
            is_guarded: true,
        };
        self.mount(path, "GET", declared, on(MethodFilter::GET, handler))
    }

    /// Mounts an act.
    pub fn post<H, T>(self, path: &'static str, permission: Permission, handler: H) -> Routes<S>
    where
        H: Handler<T, S>,
        T: 'static,
    {
        let declared = Declared {
            permission,
            is_guarded: true,
        };
        self.mount(path, "POST", declared, on(MethodFilter::POST, handler))
    }

    /// Mounts an act that takes something back.
    pub fn delete<H, T>(self, path: &'static str, permission: Permission, handler: H) -> Routes<S>
    where
        H: Handler<T, S>,
        T: 'static,
    {
        let declared = Declared {
            permission,
            is_guarded: true,
        };
        self.mount(path, "DELETE", declared, on(MethodFilter::DELETE, handler))
    }

    fn mount(
        mut self,
        path: &'static str,
        method: &'static str,
        declared: Declared,
        handler: MethodRouter<S>,
    ) -> Routes<S> {
        self.table.insert((path, method), declared);
        self.router = self.router.route(path, handler);
        self
    }

    /// Adds the routes of another part.
    pub fn merge(mut self, other: Routes<S>) -> Routes<S> {
        self.table.extend(other.table);
        self.router = self.router.merge(other.router);
        self
    }

    /// Asks `gate` before a handler of the routes mounted so far runs; the server has checked their permission by then.
    pub fn gated(
        mut self,
        gate: impl Fn(&Access) -> Result<(), ApiError> + Clone + Send + Sync + 'static,
    ) -> Routes<S> {
        let layer = from_fn(move |access: Access, request: Request, next: Next| {
            let passes = gate(&access);
            async move {
                match passes {
                    Ok(()) => next.run(request).await,
                    Err(error) => error.into_response(),
                }
            }
        });
        self.router = self.router.route_layer(layer);
        self
    }

    /// Answers what is no route; it needs [`Permission::View`].
    pub fn fallback<H, T>(mut self, handler: H) -> Routes<S>
    where
        H: Handler<T, S>,
        T: 'static,
    {
        self.router = self.router.fallback(handler);
        self
    }

    pub fn with_state(self, state: S) -> Routes {
        Routes {
            router: self.router.with_state(state),
            table: self.table,
        }
    }

    /// Path, method and declaration of every route.
    pub fn declared(&self) -> impl Iterator<Item = (&'static str, &'static str, Declared)> {
        self.table
            .iter()
            .map(|((path, method), declared)| (*path, *method, *declared))
    }
}

impl Routes {
    pub(crate) fn into_parts(self) -> (Router, Table) {
        (
            self.router.layer(DefaultBodyLimit::max(BODY_BYTES_MAX)),
            self.table,
        )
    }
}
