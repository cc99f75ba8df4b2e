//! Query parameters, strictly: an unknown name, a repeated one or a bad value is an error that names it.

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use serde::Serialize;
use watchfold_schemas::Time;
use watchfold_web::ApiError;

/// Items of a list when no `limit` is given.
pub const LIMIT_DEFAULT: usize = 100;
/// Items of a list at most.
pub const LIMIT_MAX: usize = 1_000;

/// The parameters of one request, in their order.
pub struct Params(Vec<(String, String)>);

impl<S: Sync> FromRequestParts<S> for Params {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Params, ApiError> {
        match Query::<Vec<(String, String)>>::try_from_uri(&parts.uri) {
            Ok(Query(pairs)) => Ok(Params(pairs)),
            Err(rejection) => Err(ApiError::bad_request("invalid_query", &rejection.body_text())),
        }
    }
}

impl Params {
    pub fn allow(&self, names: &[&str]) -> Result<(), ApiError> {
        for (index, (name, _)) in self.0.iter().enumerate() {
            if !names.contains(&name.as_str()) {
                let known = if names.is_empty() {
                    "none is".to_owned()
                } else {
                    names.join(", ")
                };
                let name: String = name.chars().take(40).collect();
                return Err(ApiError::bad_request(
                    "unknown_parameter",
                    &format!("{name}: not a parameter here; known: {known}"),
                ));
            }
            if self.0[..index].iter().any(|(earlier, _)| earlier == name) {
                return Err(ApiError::parameter(name, "it only once"));
            }
        }
        Ok(())
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    pub fn limit(&self, default: usize, max: usize) -> Result<usize, ApiError> {
        let Some(text) = self.get("limit") else {
            return Ok(default);
        };
        let limit = text.parse().ok().filter(|limit| (1..=max).contains(limit));
        limit.ok_or_else(|| ApiError::parameter("limit", &format!("a number from 1 to {max}")))
    }

    pub fn time(&self, name: &str) -> Result<Option<Time>, ApiError> {
        let parsed = self.get(name).map(|text| {
            text.parse()
                .map_err(|_| ApiError::parameter(name, "a time such as 2026-01-31T08:15:00Z"))
        });
        parsed.transpose()
    }

    pub fn number(&self, name: &str) -> Result<Option<u64>, ApiError> {
        let parsed = self.get(name).map(|text| {
            text.parse()
                .map_err(|_| ApiError::parameter(name, "a whole number"))
        });
        parsed.transpose()
    }

    /// A place in a list that is ordered by time and id, as [`cursor`] wrote it.
    pub fn cursor(&self) -> Result<Option<(Time, String)>, ApiError> {
        let parsed = self.get("after").map(|text| {
            let (nanos, id) = text.split_once('~')?;
            Some((Time(nanos.parse().ok()?), id.to_owned()))
        });
        match parsed {
            Some(None) => Err(ApiError::parameter("after", "the `next` of an earlier answer")),
            parsed => Ok(parsed.flatten()),
        }
    }
}

/// Names a place in a list that is ordered by time and id.
pub fn cursor(at: Time, id: &str) -> String {
    format!("{}~{id}", at.0)
}

/// A page of a list, and where the next one begins.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "{T}Page"))]
pub struct Page<T> {
    pub items: Vec<T>,
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// The first `limit` of `items`; `name` gives the cursor of the last one when there are more.
    pub fn of(items: impl Iterator<Item = T>, limit: usize, name: impl Fn(&T) -> String) -> Page<T> {
        let mut items: Vec<T> = items.take(limit + 1).collect();
        let more = items.len() > limit;
        items.truncate(limit);
        let next = if more { items.last().map(name) } else { None };
        Page { items, next }
    }
}
