//! Who asks, what they may do, and for which sites.

use std::collections::BTreeSet;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use serde::{Deserialize, Serialize};

use crate::ApiError;

/// What a route needs. Each route declares one where it is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Permission {
    /// No credential: the answer says nothing about a site.
    Open,
    /// Read what a site shows.
    View,
    /// Act: acknowledge, mute, plan maintenance.
    Operate,
    /// Change who may do what, and the configuration.
    Administer,
}

/// What the holder of a credential may do; each role may do what the ones before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Viewer,
    Operator,
    /// Sessions of earlier versions call it `owner`.
    #[serde(alias = "owner")]
    Admin,
}

impl Role {
    pub fn may(self, permission: Permission) -> bool {
        match permission {
            Permission::Open | Permission::View => true,
            Permission::Operate => self >= Role::Operator,
            Permission::Administer => self >= Role::Admin,
        }
    }
}

/// The sites that a credential is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Sessions of earlier versions call it `site`.
    #[serde(alias = "site")]
    All,
    Sites(BTreeSet<String>),
}

impl Scope {
    pub fn covers(&self, site: &str) -> bool {
        match self {
            Scope::All => true,
            Scope::Sites(sites) => sites.contains(site),
        }
    }
}

/// What a checked credential gives. Handlers take it as an argument.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    pub who: String,
    pub role: Role,
    pub scope: Scope,
}

impl Access {
    /// The holder of the access token.
    pub fn owner() -> Access {
        Access {
            who: "owner".to_owned(),
            role: Role::Admin,
            scope: Scope::All,
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Access {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Access, ApiError> {
        parts.extensions.get::<Access>().cloned().ok_or_else(|| {
            ApiError::unavailable(
                "no_access",
                "this address takes no credential and needs one; please report this",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_may_do_what_lesser_roles_may() {
        use Permission::{Administer, Open, Operate, View};
        for (role, allowed) in [
            (Role::Viewer, &[Open, View][..]),
            (Role::Operator, &[Open, View, Operate]),
            (Role::Admin, &[Open, View, Operate, Administer]),
        ] {
            for permission in [Open, View, Operate, Administer] {
                assert_eq!(
                    role.may(permission),
                    allowed.contains(&permission),
                    "{role:?} {permission:?}"
                );
            }
        }
    }
}
