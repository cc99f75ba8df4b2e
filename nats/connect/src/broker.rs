//! Options of the command line and of a context as options of a broker. Reads the files they name, and connects to
//! nothing.

use std::path::{Path, PathBuf};

use watchfold_jetstream::{Auth, JetStreamOptions, Secret, Tls};

use crate::context::{Context, expand, read_text};
use crate::{ConnectArgs, ConnectError, context};

/// A credentials file or a password is some lines; more is another file.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// What `args` come to, with contexts looked up in `contexts`.
pub(crate) fn options(args: &ConnectArgs, contexts: Option<&Path>) -> Result<JetStreamOptions, ConnectError> {
    let url = args.log.as_deref().filter(|url| *url != "nats:");
    let context = match (&args.nats_context, url) {
        (None, Some(_)) => Context::default(),
        (name, _) => {
            let folder = contexts.ok_or(ConnectError::NoHome)?;
            context::load(folder, name.as_deref())?
        }
    };
    let url = url.map_or(context.url.as_str(), |url| url);
    let (servers, login) = servers(url)?;
    let mut options = JetStreamOptions::new(servers);
    options.auth = auth(args, &context, login)?;
    options.tls = tls(args, &context)?;
    options.replicas = args.nats_replicas;
    options.domain = Some(context.jetstream_domain).filter(|domain| !domain.is_empty());
    let prefix = args.nats_inbox_prefix.clone().unwrap_or(context.inbox_prefix);
    options.inbox_prefix = Some(prefix).filter(|prefix| !prefix.is_empty());
    Ok(options)
}

struct Login {
    user: String,
    password: Option<String>,
}

/// The servers of a URL list without what is secret in it, and that.
fn servers(list: &str) -> Result<(Vec<String>, Option<Login>), ConnectError> {
    let mut servers = Vec::new();
    let mut login = None;
    for url in list.split(',').map(str::trim).filter(|url| !url.is_empty()) {
        let (scheme, rest) = match url.split_once("://") {
            Some((scheme @ ("nats" | "tls"), rest)) => (scheme, rest),
            // A list names the scheme once. One that begins to name users later is a password with a comma in it.
            None if !servers.is_empty() && (login.is_some() || !url.contains('@')) => ("nats", url),
            _ => return Err(unknown(list)),
        };
        let rest = rest.trim_end_matches('/');
        let host = match rest.rsplit_once('@') {
            Some((user, host)) => {
                let (user, password) = match user.split_once(':') {
                    Some((user, password)) => (decoded(user), Some(decoded(password))),
                    None => (decoded(user), None),
                };
                login = Some(Login { user, password });
                host
            }
            None => rest,
        };
        if host.is_empty() || host.contains(['/', ' ', '?', '#']) || !has_a_good_port(host) {
            return Err(unknown(list));
        }
        servers.push(format!("{scheme}://{host}"));
    }
    if servers.is_empty() {
        return Err(unknown(list));
    }
    Ok((servers, login))
}

/// None, or a number: anything else is the beginning of a password that holds a comma.
fn has_a_good_port(host: &str) -> bool {
    // The colons within brackets are an address's.
    let after = host.rsplit_once(']').map_or(host, |(_, after)| after);
    after
        .rsplit_once(':')
        .is_none_or(|(_, port)| port.parse::<u16>().is_ok())
}

fn unknown(url: &str) -> ConnectError {
    ConnectError::UnknownUrl { url: shown(url) }
}

/// The URL may hold a password, and that a comma: where there is a user, only what stands behind the last is shown.
pub(crate) fn shown(url: &str) -> String {
    match url.rsplit_once('@') {
        Some((_, host)) => format!("…@{host}"),
        None => url.to_owned(),
    }
}

/// `%40` and the like in user and password.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex
            .and_then(|hex| u8::from_str_radix(hex, 16).ok())
            .filter(|_| byte == b'%')
        {
            Some(decoded) => {
                bytes.push(decoded);
                rest = &after[2..];
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The command line goes before the URL, and the URL before the context.
fn auth(args: &ConnectArgs, context: &Context, login: Option<Login>) -> Result<Auth, ConnectError> {
    if let Some(path) = &args.creds {
        return Ok(Auth::Credentials(secret("credentials file", path)?));
    }
    if let Some(user) = &args.nats_user {
        let path = args.nats_password_file.as_ref().ok_or(ConnectError::NoPassword)?;
        return Ok(Auth::UserPassword {
            user: user.clone(),
            password: secret("password file", path)?,
        });
    }
    if let Some(Login { user, password }) = login {
        return Ok(match password {
            Some(password) => Auth::UserPassword {
                user,
                password: Secret::new(password),
            },
            None => Auth::Token(Secret::new(user)),
        });
    }
    Ok(if !context.creds.is_empty() {
        Auth::Credentials(secret("credentials file", &expand(&context.creds))?)
    } else if !context.nkey.is_empty() {
        Auth::Nkey(secret("nkey file", &expand(&context.nkey))?)
    } else if !context.user.is_empty() {
        Auth::UserPassword {
            user: context.user.clone(),
            password: Secret::new(context.password.clone()),
        }
    } else if !context.token.is_empty() {
        Auth::Token(Secret::new(context.token.clone()))
    } else {
        Auth::None
    })
}

fn tls(args: &ConnectArgs, context: &Context) -> Result<Tls, ConnectError> {
    let named = |given: &Option<PathBuf>, text: &str| {
        given.clone().or_else(|| (!text.is_empty()).then(|| expand(text)))
    };
    let ca = named(&args.tls_ca, &context.ca);
    let cert = named(&args.tls_cert, &context.cert);
    let key = named(&args.tls_key, &context.key);
    for (what, path) in [("CA file", &ca), ("certificate", &cert), ("key", &key)] {
        if let Some(path) = path {
            std::fs::File::open(path).map_err(|source| ConnectError::Unreadable {
                what,
                path: path.clone(),
                source,
            })?;
        }
    }
    Ok(Tls {
        required: ca.is_some() || cert.is_some(),
        first: context.tls_first,
        ca,
        identity: cert.zip(key),
    })
}

/// The text of a small file, without the end of its last line.
fn secret(what: &'static str, path: &Path) -> Result<Secret, ConnectError> {
    let unreadable = |source| ConnectError::Unreadable {
        what,
        path: path.to_owned(),
        source,
    };
    let bytes = std::fs::metadata(path).map_err(unreadable)?.len();
    if bytes > SECRET_BYTES_MAX {
        return Err(unreadable(std::io::Error::other(format!(
            "it has {bytes} bytes, and no {what} has more than {SECRET_BYTES_MAX}"
        ))));
    }
    let text = read_text(path).map_err(unreadable)?;
    Ok(Secret::new(text.trim_end_matches(['\r', '\n'])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(log: &str) -> ConnectArgs {
        ConnectArgs {
            log: Some(log.to_owned()),
            ..ConnectArgs::default()
        }
    }

    #[test]
    fn urls_lose_their_secrets_and_keep_their_servers() {
        for (url, servers, auth) in [
            ("nats://hub:4222", "nats://hub:4222", "None"),
            (
                "nats://a:4222,nats://b:4222",
                "nats://a:4222,nats://b:4222",
                "None",
            ),
            ("nats://a:4222,b:4223", "nats://a:4222,nats://b:4223", "None"),
            (
                "tls://u:p%40ss@hub/",
                "tls://hub",
                "UserPassword { user: \"u\", password: (secret) }",
            ),
            ("nats://t0ken@hub", "nats://hub", "Token((secret))"),
            ("nats://[::1]:4222", "nats://[::1]:4222", "None"),
        ] {
            let options = options(&args(url), None).unwrap_or_else(|error| panic!("{url}: {error}"));
            assert_eq!(
                (options.place().as_str(), format!("{:?}", options.auth).as_str()),
                (servers, auth),
                "{url}"
            );
        }
        assert_eq!(decoded("p%40s%s%4"), "p@s%s%4");
    }

    #[test]
    fn what_is_no_url_is_shown_without_its_password() {
        for url in [
            "http://u:hunter2@hub",
            "nats://",
            "",
            "hub:4222",
            "nats://u:hunter2@",
            "nats://u:hunter2,x@hub",
            "nats://u:1,hunter2@hub",
            "nats://u:x,hunter2,y@hub:4222,lab:4222",
            "nats://hub/path",
        ] {
            let error = options(&args(url), None)
                .err()
                .unwrap_or_else(|| panic!("{url}"))
                .to_string();
            assert!(
                error.contains("is no log") && !error.contains("hunter2"),
                "{error}"
            );
        }
    }

    #[test]
    fn files_that_cannot_be_read_are_named() {
        let missing = PathBuf::from("no/such/file");
        for (change, want) in [
            (
                ConnectArgs {
                    creds: Some(missing.clone()),
                    ..args("nats://hub")
                },
                "credentials file",
            ),
            (
                ConnectArgs {
                    tls_ca: Some(missing.clone()),
                    ..args("nats://hub")
                },
                "CA file",
            ),
            (
                ConnectArgs {
                    nats_user: Some("u".into()),
                    ..args("nats://hub")
                },
                "--nats-password-file",
            ),
        ] {
            let error = options(&change, None).err().unwrap().to_string();
            assert!(error.contains(want), "{error}");
        }
    }

    #[test]
    fn the_command_line_goes_before_the_context() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("context")).unwrap();
        std::fs::write(
            dir.path().join("context/hub.json"),
            r#"{"url":"nats://hub:4222","user":"u","password":"p","jetstream_domain":"site","inbox_prefix":"_INBOX_u"}"#,
        )
        .unwrap();
        let named = ConnectArgs {
            nats_context: Some("hub".into()),
            ..ConnectArgs::default()
        };
        let from_context = options(&named, Some(dir.path())).unwrap();
        assert_eq!(
            (from_context.place().as_str(), from_context.domain.as_deref()),
            ("nats://hub:4222", Some("site"))
        );
        assert_eq!(from_context.inbox_prefix.as_deref(), Some("_INBOX_u"));
        let own = ConnectArgs {
            nats_inbox_prefix: Some("_INBOX_v".into()),
            ..named.clone()
        };
        let own = options(&own, Some(dir.path())).unwrap();
        assert_eq!(own.inbox_prefix.as_deref(), Some("_INBOX_v"));
        let elsewhere = ConnectArgs {
            log: Some("nats://token@lab".into()),
            ..named
        };
        let mixed = options(&elsewhere, Some(dir.path())).unwrap();
        assert_eq!(mixed.place(), "nats://lab");
        assert!(matches!(mixed.auth, Auth::Token(_)));
    }
}
