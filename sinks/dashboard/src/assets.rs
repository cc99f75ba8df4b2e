//! The page's files, embedded by the build. Names with a hash are cached for ever, the rest is checked each time.

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

/// One embedded file.
struct Asset {
    /// As requested, `/assets/index-1a2b3c4d.js`.
    path: &'static str,
    content_type: &'static str,
    etag: &'static str,
    /// The name changes with the content.
    immutable: bool,
    body: &'static [u8],
    gzip: Option<&'static [u8]>,
}

include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// The file at `path`, `/` being the page itself.
pub fn serve(path: &str, headers: &HeaderMap) -> Response {
    let path = if path == "/" { "/index.html" } else { path };
    let Some(asset) = ASSETS.iter().find(|asset| asset.path == path) else {
        return (StatusCode::NOT_FOUND, "There is nothing at this address.\n").into_response();
    };
    let cache = if asset.immutable {
        "private, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    let common = [
        (header::CACHE_CONTROL, cache),
        (header::ETAG, asset.etag),
        (header::VARY, "accept-encoding"),
        (header::CONTENT_TYPE, asset.content_type),
    ];
    if mentions(headers, header::IF_NONE_MATCH, asset.etag) {
        return (StatusCode::NOT_MODIFIED, common).into_response();
    }
    match asset.gzip {
        Some(gzip) if mentions(headers, header::ACCEPT_ENCODING, "gzip") => (
            common,
            [(header::CONTENT_ENCODING, "gzip")],
            Body::from(Bytes::from_static(gzip)),
        )
            .into_response(),
        _ => (common, Body::from(Bytes::from_static(asset.body))).into_response(),
    }
}

fn mentions(headers: &HeaderMap, name: header::HeaderName, wanted: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(','))
        .any(|item| item.trim().trim_start_matches("W/") == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_there_and_is_not_sent_twice() {
        let first = serve("/", &HeaderMap::new());
        assert_eq!(first.status(), StatusCode::OK);
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_NONE_MATCH, first.headers()[header::ETAG].clone());
        assert_eq!(serve("/index.html", &headers).status(), StatusCode::NOT_MODIFIED);
        for path in ["/../Cargo.toml", "/assets/none.js", "//etc/passwd"] {
            assert_eq!(
                serve(path, &HeaderMap::new()).status(),
                StatusCode::NOT_FOUND,
                "{path}"
            );
        }
    }
}
