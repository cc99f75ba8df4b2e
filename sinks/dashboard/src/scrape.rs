//! `GET /metrics`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use watchfold_kit::metrics::CONTENT_TYPE;
use watchfold_web::ApiError;

use crate::api::App;
use crate::api::health::streams;
use crate::api::params::Params;
use crate::metrics::render;

pub async fn metrics(State(app): State<Arc<App>>, params: Params) -> Result<Response, ApiError> {
    params.allow(&[])?;
    let text = render(&app, &app.stages(), &streams(&app).await);
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response())
}
