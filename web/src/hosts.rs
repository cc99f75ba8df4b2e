//! Under which names the page answers, and whether a browser reached it by https.
//!
//! A page of another site can make its own name point at this machine (DNS rebinding). The browser then sends that name in `Host`, so a
//! request under a name that is not ours is refused.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use axum::http::uri::Authority;
use axum::http::{HeaderMap, Uri, header};
use watchfold_config::PageAccess;

/// The names and proxies of one page.
#[derive(Debug)]
pub struct Hosts {
    listen: IpAddr,
    /// In lower case, without a trailing dot.
    names: BTreeSet<String>,
    public: Option<Public>,
    access: PageAccess,
}

/// The configured public address.
#[derive(Debug)]
struct Public {
    is_https: bool,
    authority: String,
    name: String,
}

/// What is wrong with a request's `Host`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostProblem {
    Missing,
    Doubled,
    Malformed,
    /// A name of somebody else.
    Foreign(String),
}

impl Hosts {
    pub fn new(listen: SocketAddr, access: PageAccess) -> Hosts {
        let public = access.public_url.as_deref().and_then(Public::parse);
        let own = access.hosts.iter().map(|host| plain(host));
        let names = own.chain(public.iter().map(|public| public.name.clone()));
        Hosts {
            listen: listen.ip().to_canonical(),
            names: names.collect(),
            public,
            access,
        }
    }

    /// Checks the name that a request was sent to. A request line with a whole address names a host, too.
    pub fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), HostProblem> {
        let mut hosts = headers.get_all(header::HOST).iter();
        let host = hosts.next().ok_or(HostProblem::Missing)?;
        if hosts.next().is_some() {
            return Err(HostProblem::Doubled);
        }
        let host = host.to_str().map_err(|_| HostProblem::Malformed)?;
        for authority in uri.authority().map(Authority::as_str).into_iter().chain([host]) {
            let name = name_of(authority).ok_or(HostProblem::Malformed)?;
            if !self.is_own(&name) {
                return Err(HostProblem::Foreign(name));
            }
        }
        Ok(())
    }

    fn is_own(&self, name: &str) -> bool {
        if self.names.contains(name) || name == "localhost" || name.ends_with(".localhost") {
            return true;
        }
        // An address is no name that somebody else could point here. One that listens everywhere does not know all of its own.
        name.parse::<IpAddr>().is_ok_and(|ip| {
            let ip = ip.to_canonical();
            ip.is_loopback() || ip == self.listen || self.listen.is_unspecified()
        })
    }

    /// Whether the browser's end of the request is encrypted: the public address says so, or a configured proxy.
    pub fn is_https(&self, peer: Option<IpAddr>, headers: &HeaderMap) -> bool {
        let host = text(headers, header::HOST).and_then(name_of);
        if let (Some(public), Some(host)) = (&self.public, host)
            && public.is_https
            && public.name == host
        {
            return true;
        }
        let is_proxy = peer.is_some_and(|peer| self.access.proxies.iter().any(|block| block.contains(peer)));
        let forwarded = headers.get_all("x-forwarded-proto").iter().next_back();
        let nearest = forwarded
            .and_then(|value| value.to_str().ok()?.rsplit(',').next())
            .unwrap_or_default();
        is_proxy && nearest.trim().eq_ignore_ascii_case("https")
    }

    /// Whether `Origin` names the host that the request was sent to, or the public address.
    pub fn is_same_origin(&self, headers: &HeaderMap) -> bool {
        let Some((scheme, authority)) =
            text(headers, header::ORIGIN).and_then(|origin| origin.split_once("://"))
        else {
            return false;
        };
        let is_host = text(headers, header::HOST).is_some_and(|host| authority.eq_ignore_ascii_case(host));
        let is_public = self.public.as_ref().is_some_and(|public| {
            let own = if public.is_https { "https" } else { "http" };
            scheme == own && public.authority.eq_ignore_ascii_case(authority)
        });
        is_host || is_public
    }
}

impl Public {
    fn parse(url: &str) -> Option<Public> {
        let (scheme, rest) = url.split_once("://")?;
        let authority = rest.split(['/', '?', '#']).next()?;
        Some(Public {
            is_https: scheme.eq_ignore_ascii_case("https"),
            authority: authority.to_owned(),
            name: name_of(authority)?,
        })
    }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The host of an authority without its port; `None` where it is not an authority or holds a user's name.
fn name_of(authority: &str) -> Option<String> {
    let parsed: Authority = authority.parse().ok()?;
    let host = parsed.host().trim_start_matches('[').trim_end_matches(']');
    (!authority.contains('@') && !host.is_empty()).then(|| plain(host))
}

fn plain(host: &str) -> String {
    host.trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (header::HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    fn hosts(listen: &str) -> Hosts {
        let access = PageAccess {
            public_url: Some("https://Watch.example.org:8443/prefix".into()),
            hosts: vec!["cafe.internal".into(), "192.0.2.7".into()],
            proxies: vec!["10.0.0.0/8".parse().unwrap()],
        };
        Hosts::new(listen.parse().unwrap(), access)
    }

    #[test]
    fn own_names_pass_and_foreign_ones_do_not() {
        let foreign = |name: &str| Err(HostProblem::Foreign(name.to_owned()));
        for (listen, host, want) in [
            ("127.0.0.1:8737", "127.0.0.1:8737", Ok(())),
            ("127.0.0.1:8737", "127.0.0.1:1", Ok(())),
            ("127.0.0.1:8737", "LocalHost", Ok(())),
            ("127.0.0.1:8737", "a.localhost:80", Ok(())),
            ("127.0.0.1:8737", "[::1]:8737", Ok(())),
            ("127.0.0.1:8737", "watch.EXAMPLE.org", Ok(())),
            ("127.0.0.1:8737", "cafe.internal.:8737", Ok(())),
            ("127.0.0.1:8737", "192.0.2.7", Ok(())),
            ("127.0.0.1:8737", "192.0.2.8", foreign("192.0.2.8")),
            ("192.0.2.8:8737", "192.0.2.8", Ok(())),
            ("0.0.0.0:8737", "203.0.113.1:80", Ok(())),
            ("[::]:8737", "[2001:db8::1]", Ok(())),
            ("0.0.0.0:8737", "evil.example", foreign("evil.example")),
            (
                "127.0.0.1:8737",
                "localhost.evil.example",
                foreign("localhost.evil.example"),
            ),
            (
                "127.0.0.1:8737",
                "127.0.0.1.evil.example",
                foreign("127.0.0.1.evil.example"),
            ),
            ("127.0.0.1:8737", "user@localhost", Err(HostProblem::Malformed)),
            ("127.0.0.1:8737", "a b", Err(HostProblem::Malformed)),
            ("127.0.0.1:8737", "", Err(HostProblem::Malformed)),
        ] {
            let found = hosts(listen).check(&Uri::from_static("/"), &headers(&[("host", host)]));
            assert_eq!(found, want, "{host} at {listen}");
        }
        let hosts = hosts("127.0.0.1:8737");
        let whole = Uri::from_static("http://evil.example/");
        assert_eq!(
            hosts.check(&whole, &headers(&[("host", "localhost")])),
            foreign("evil.example")
        );
        let doubled = headers(&[("host", "localhost"), ("host", "localhost")]);
        assert_eq!(
            hosts.check(&Uri::from_static("/"), &doubled),
            Err(HostProblem::Doubled)
        );
        assert_eq!(
            hosts.check(&Uri::from_static("/"), &headers(&[])),
            Err(HostProblem::Missing)
        );
    }

    #[test]
    fn https_is_believed_of_the_public_address_and_of_proxies_only() {
        let hosts = hosts("127.0.0.1:8737");
        let (proxy, stranger) = ("10.1.2.3", "192.0.2.1");
        for (peer, pairs, want) in [
            (stranger, &[("host", "watch.example.org")][..], true),
            (stranger, &[("host", "localhost")], false),
            (
                stranger,
                &[("host", "localhost"), ("x-forwarded-proto", "https")],
                false,
            ),
            (
                proxy,
                &[("host", "localhost"), ("x-forwarded-proto", "https")],
                true,
            ),
            (
                proxy,
                &[("host", "localhost"), ("x-forwarded-proto", "https, http")],
                false,
            ),
            (
                proxy,
                &[("host", "localhost"), ("x-forwarded-proto", "http")],
                false,
            ),
            (proxy, &[("host", "localhost")], false),
        ] {
            let found = hosts.is_https(Some(peer.parse().unwrap()), &headers(pairs));
            assert_eq!(found, want, "{peer} {pairs:?}");
        }
    }

    #[test]
    fn an_origin_is_ours_under_the_host_or_the_public_address() {
        let hosts = hosts("127.0.0.1:8737");
        for (origin, want) in [
            ("http://a:1", true),
            ("http://a:2", false),
            ("https://watch.example.org:8443", true),
            ("http://watch.example.org:8443", false),
            ("https://watch.example.org", false),
            ("null", false),
        ] {
            let pairs = headers(&[("host", "a:1"), ("origin", origin)]);
            assert_eq!(hosts.is_same_origin(&pairs), want, "{origin}");
        }
        assert!(!hosts.is_same_origin(&headers(&[("host", "a:1")])));
    }
}
