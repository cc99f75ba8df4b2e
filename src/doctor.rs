//! `watchfold doctor`: sees whether this machine can do what is asked of it. It changes nothing and tells nobody.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;
use watchfold_kit::open_files::raise;
use watchfold_ping::{EchoAccess, NeighbourAccess, check_permissions, default_gateway};

use crate::cli::{DoctorArgs, Format};
use crate::config::{self, Config};
use crate::parts::rules::site_rules;
use crate::paths::Data;
use crate::ready::asked;
use watchfold_kit::{console, outln};

/// How long a sink's server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A log of 30 days needs more than this on most sites; less is a warning.
const DISK_FREE_BYTES_MIN: u64 = 2 * 1024 * 1024 * 1024;

/// The page's 1,024 connections and 2,000 viewers, and the files of everything else.
const OPEN_FILES_MIN: u64 = 4_096;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Ok,
    Warning,
    Error,
}

#[derive(Debug, Serialize)]
struct Finding {
    area: &'static str,
    verdict: Verdict,
    /// What was found, and what to do where something should be done.
    message: String,
}

pub fn doctor(args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let data = Data::locate(args.data.data.as_deref())?;
    let path = args.config.clone().unwrap_or_else(|| data.config());
    let mut findings = Vec::new();
    let config = configuration(&path, args.config.is_some(), &mut findings);
    permissions(&mut findings);
    network(&mut findings);
    time(config.as_ref(), &mut findings);
    disk(data.path(), &mut findings);
    open_files(&mut findings);
    if let Some(config) = &config {
        captures(config, &mut findings);
        rules(config, &mut findings);
        page(config, &data, &mut findings);
        sinks(config, &mut findings);
        refusals(config, &data, &mut findings);
    }
    console::while_read(show(&findings, args.format))?;
    let worst = findings.iter().map(|finding| finding.verdict).max();
    Ok(if worst == Some(Verdict::Error) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn show(findings: &[Finding], format: Format) -> anyhow::Result<()> {
    match format {
        Format::Json => outln!("{}", serde_json::to_string_pretty(findings)?)?,
        Format::Human => {
            for finding in findings {
                let mark = match finding.verdict {
                    Verdict::Ok => "ok     ",
                    Verdict::Warning => "warning",
                    Verdict::Error => "ERROR  ",
                };
                outln!("{mark}  {:<12} {}", finding.area, finding.message)?;
            }
        }
    }
    Ok(())
}

fn configuration(path: &Path, given: bool, findings: &mut Vec<Finding>) -> Option<Config> {
    let area = "config";
    if !path.exists() && !given {
        let message = format!(
            "none yet in {}: the first `watchfold up` makes one",
            path.display()
        );
        findings.push(Finding {
            area,
            verdict: Verdict::Ok,
            message,
        });
        return None;
    }
    match config::load(path) {
        Ok(config) => {
            findings.push(Finding {
                area,
                verdict: Verdict::Ok,
                message: format!("{} is good", path.display()),
            });
            for warning in &config.warnings {
                findings.push(Finding {
                    area,
                    verdict: Verdict::Warning,
                    message: warning.clone(),
                });
            }
            Some(config)
        }
        Err(error) => {
            findings.push(Finding {
                area,
                verdict: Verdict::Error,
                message: error.to_string(),
            });
            None
        }
    }
}

fn permissions(findings: &mut Vec<Finding>) {
    let report = check_permissions();
    let echo = |access: &EchoAccess| match access {
        EchoAccess::Datagram => "works without privileges",
        EchoAccess::Raw => "works by raw sockets",
        EchoAccess::Denied => "is not allowed",
        EchoAccess::Absent => "has no address family here",
    };
    let verdict = if report.echo_works() {
        Verdict::Ok
    } else {
        Verdict::Error
    };
    let message = format!("IPv4 {}, IPv6 {}", echo(&report.echo_v4), echo(&report.echo_v6));
    findings.push(Finding {
        area: "echo",
        verdict,
        message,
    });
    let (verdict, message) = match report.neighbours {
        NeighbourAccess::Provoked => (
            Verdict::Ok,
            "PCs that drop echo are seen, and seen to leave within seconds",
        ),
        NeighbourAccess::SystemPaced => (
            Verdict::Ok,
            "PCs that drop echo are seen, and seen to leave within about a minute",
        ),
        NeighbourAccess::Unavailable => (
            Verdict::Warning,
            "the neighbour table cannot be read: PCs that drop echo are not seen",
        ),
    };
    findings.push(Finding {
        area: "neighbours",
        verdict,
        message: message.to_owned(),
    });
    for advice in report.advice {
        findings.push(Finding {
            area: "permissions",
            verdict: Verdict::Warning,
            message: advice,
        });
    }
}

/// Each interface of the configuration is opened and closed again.
fn captures(config: &Config, findings: &mut Vec<Finding>) {
    for capture in &config.captures {
        let (verdict, message) = match watchfold_capture::check(capture) {
            Ok(()) => (
                Verdict::Ok,
                format!("packets of {} can be captured", capture.interface),
            ),
            Err(error) => (Verdict::Error, error.to_string()),
        };
        findings.push(Finding {
            area: "capture",
            verdict,
            message,
        });
    }
}

fn rules(config: &Config, findings: &mut Vec<Finding>) {
    let (verdict, message) = match site_rules(config) {
        Ok(rules) => (
            Verdict::Ok,
            format!("{} rules of the set {}", rules.set.rules.len(), rules.set.name),
        ),
        Err(error) => (Verdict::Error, error.to_string()),
    };
    findings.push(Finding {
        area: "rules",
        verdict,
        message,
    });
    let asks = config.virustotal.as_ref();
    if asks.is_some_and(|virustotal| virustotal.key.is_none()) {
        findings.push(Finding {
            area: "virustotal",
            verdict: Verdict::Warning,
            message:
                "there is no key, so nothing is asked: give one in sinks.virustotal.key or VIRUSTOTAL_API_KEY"
                    .to_owned(),
        });
    }
}

fn network(findings: &mut Vec<Finding>) {
    let (verdict, message) = match default_gateway() {
        Some(gateway) => (
            Verdict::Ok,
            format!("default gateway {} by {}", gateway.address, gateway.interface),
        ),
        None => (
            Verdict::Warning,
            "no default gateway: only the local network can be watched".to_owned(),
        ),
    };
    findings.push(Finding {
        area: "network",
        verdict,
        message,
    });
}

#[expect(
    clippy::disallowed_methods,
    reason = "whether the machine's clock is sane is what is asked"
)]
fn time(config: Option<&Config>, findings: &mut Vec<Finding>) {
    let zone = config.map_or_else(
        || {
            jiff::tz::TimeZone::system()
                .iana_name()
                .unwrap_or("UTC")
                .to_owned()
        },
        |config| config.site.time_zone.clone(),
    );
    let year = jiff::Zoned::now().year();
    let sane = (2025..2100).contains(&year);
    let verdict = if sane { Verdict::Ok } else { Verdict::Error };
    let message = if sane {
        format!("zone {zone}")
    } else {
        format!("the clock says it is the year {year}: set it, or let NTP do so")
    };
    findings.push(Finding {
        area: "time",
        verdict,
        message,
    });
}

fn disk(data: &Path, findings: &mut Vec<Finding>) {
    let area = "disk";
    let existing = data.ancestors().find(|path| path.is_dir()).unwrap_or(data);
    let probe = existing.join(".watchfold-doctor");
    let writable = std::fs::write(&probe, b"x").and_then(|()| std::fs::remove_file(&probe));
    if let Err(error) = writable {
        let message = format!(
            "{} cannot be written: {error}; choose another with --data DIR",
            existing.display()
        );
        findings.push(Finding {
            area,
            verdict: Verdict::Error,
            message,
        });
        return;
    }
    match free_bytes(existing) {
        Some(free) => {
            let verdict = if free < DISK_FREE_BYTES_MIN {
                Verdict::Warning
            } else {
                Verdict::Ok
            };
            let message = format!("{} MiB free for {}", free / (1024 * 1024), data.display());
            findings.push(Finding {
                area,
                verdict,
                message,
            });
        }
        None => findings.push(Finding {
            area,
            verdict: Verdict::Ok,
            message: format!("{} can be written", data.display()),
        }),
    }
}

/// The limit of open files after this process has raised its own, as `watchfold up` does.
fn open_files(findings: &mut Vec<Finding>) {
    let Some(files) = raise() else { return };
    let (verdict, advice) = match files.limit < OPEN_FILES_MIN {
        true => (
            Verdict::Warning,
            "; under 4096 fewer connections to the page are taken: raise LimitNOFILE or `ulimit -Hn`",
        ),
        false => (Verdict::Ok, ""),
    };
    findings.push(Finding {
        area: "open files",
        verdict,
        message: format!(
            "{} (nofile; the process starts with {}){advice}",
            files.limit, files.before
        ),
    });
}

/// Free space as `df` tells it; `None` where there is no `df`.
fn free_bytes(path: &Path) -> Option<u64> {
    let output = std::process::Command::new("df")
        .arg("-Pk")
        .arg(path)
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let kibibytes: u64 = text.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()?;
    Some(kibibytes * 1024)
}

fn page(config: &Config, data: &Data, findings: &mut Vec<Finding>) {
    let (verdict, message) = match TcpListener::bind(config.listen) {
        Ok(_) => (Verdict::Ok, format!("{} is free", config.listen)),
        Err(_) if data.link().exists() => running(config.listen),
        Err(error) => (
            Verdict::Error,
            format!(
                "cannot listen on {}: {error}; choose another with --listen",
                config.listen
            ),
        ),
    };
    findings.push(Finding {
        area: "page",
        verdict,
        message,
    });
    if !config.listen.ip().is_loopback() {
        let message = format!(
            "{} can be reached from other machines; traffic is not encrypted yet",
            config.listen
        );
        findings.push(Finding {
            area: "page",
            verdict: Verdict::Warning,
            message,
        });
    }
}

/// Destinations that took nothing when Watchfold last sent something, as the sinks' state files have it.
fn refusals(config: &Config, data: &Data, findings: &mut Vec<Finding>) {
    let configured = [
        (watchfold_discord::SINK, config.discord.is_some()),
        (watchfold_healthchecks::SINK, config.healthchecks.is_some()),
    ];
    for (area, _) in configured.into_iter().filter(|(_, is_configured)| *is_configured) {
        let state = data.sinks(&config.site.site).join(format!("{area}.state"));
        for (destination, reason) in watchfold_sink_kit::recorded_faults(&state) {
            findings.push(Finding {
                area,
                verdict: Verdict::Error,
                message: format!("{destination} takes no messages: {reason}"),
            });
        }
    }
}

/// What listens on the page's address says of itself.
fn running(listen: SocketAddr) -> (Verdict, String) {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    match asked(&format!("http://{}", SocketAddr::new(ip, listen.port()))) {
        Ok(Ok((200, _))) => (
            Verdict::Ok,
            format!("{listen} is in use by a running watchfold, which is ready"),
        ),
        Ok(Ok((503, why))) => (
            Verdict::Error,
            format!(
                "the watchfold that runs at {listen} is not ready: {}; see Health on its page",
                why.trim()
            ),
        ),
        _ => (
            Verdict::Warning,
            format!(
                "{listen} is in use by a program that does not answer as watchfold does; choose another with --listen"
            ),
        ),
    }
}

/// Whether the servers of the sinks take connections. Nothing is sent, and no address is shown but the host's.
fn sinks(config: &Config, findings: &mut Vec<Finding>) {
    let discord = config
        .discord
        .iter()
        .flat_map(|discord| discord.webhooks.values())
        .map(|secret| ("discord", secret));
    let health = config
        .healthchecks
        .iter()
        .map(|health| ("healthchecks", &health.url));
    let asked = config.virustotal.iter().filter(|asked| asked.key.is_some());
    let asked = asked.map(|asked| ("virustotal", asked.address.as_str()));
    let told = discord
        .chain(health)
        .map(|(area, secret)| (area, secret.expose()));
    let mut seen = Vec::new();
    for (area, address) in told.chain(asked) {
        let Some((host, port)) = host_of(address) else {
            continue;
        };
        if seen.contains(&(area, host.clone(), port)) {
            continue;
        }
        seen.push((area, host.clone(), port));
        let (verdict, message) = match connect(&host, port) {
            Ok(()) => (Verdict::Ok, format!("{host}:{port} can be reached")),
            Err(error) => (
                Verdict::Warning,
                format!("{host}:{port} cannot be reached now: {error}"),
            ),
        };
        findings.push(Finding {
            area,
            verdict,
            message,
        });
    }
}

fn connect(host: &str, port: u16) -> std::io::Result<()> {
    let address = (host, port)
        .to_socket_addrs()?
        .next()
        .ok_or_else(|| std::io::Error::other("the name has no address"))?;
    TcpStream::connect_timeout(&address, CONNECT_TIMEOUT).map(drop)
}

/// Host and port of an http or https address.
fn host_of(url: &str) -> Option<(String, u16)> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?.rsplit('@').next()?;
    let port = if scheme == "https" { 443 } else { 80 };
    match authority.rsplit_once(':') {
        Some((host, given)) if !host.is_empty() && !given.contains(']') => {
            Some((host.trim_matches(['[', ']']).to_owned(), given.parse().ok()?))
        }
        _ => Some((authority.trim_matches(['[', ']']).to_owned(), port)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_addresses() {
        for (url, want) in [
            ("https://discord.com/api/webhooks/1/x", ("discord.com", 443)),
            ("http://127.0.0.1:8080/x", ("127.0.0.1", 8080)),
            ("http://[::1]:81/", ("::1", 81)),
            ("https://[::1]/", ("::1", 443)),
            ("https://user:pass@hc.test/x", ("hc.test", 443)),
        ] {
            assert_eq!(host_of(url), Some((want.0.to_owned(), want.1)), "{url}");
        }
        assert_eq!(host_of("nonsense"), None);
    }
}
