//! What a service manager is told, by the protocol of sd_notify(3): ready, how it goes, alive, stopping.
//!
//! Without `NOTIFY_SOCKET` in the environment all of it is nothing. It never waits: a manager that does not listen
//! misses a word.

use std::time::Duration;

/// A status line longer than this is cut, in bytes; `systemctl status` shows one line.
const STATUS_BYTES_MAX: usize = 200;

/// The way to the service manager that started this process, if one did.
#[derive(Debug, Default)]
pub struct Notifier {
    #[cfg(unix)]
    socket: Option<unix::Manager>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// As the environment says.
    pub fn from_environment() -> Notifier {
        let text = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        Notifier::new(
            text("NOTIFY_SOCKET").as_deref(),
            text("WATCHDOG_USEC").as_deref(),
            text("WATCHDOG_PID").as_deref(),
            std::process::id(),
        )
    }

    fn new(
        socket: Option<&str>,
        watchdog_us: Option<&str>,
        watchdog_pid: Option<&str>,
        own_pid: u32,
    ) -> Notifier {
        let ours = watchdog_pid.is_none_or(|pid| pid.parse() == Ok(own_pid));
        let watchdog = watchdog_us
            .filter(|_| ours)
            .and_then(|text| text.parse().ok())
            .filter(|micros| *micros > 0)
            .map(Duration::from_micros);
        Notifier {
            #[cfg(unix)]
            socket: socket.and_then(unix::Manager::connect),
            watchdog: watchdog.filter(|_| socket.is_some()),
        }
    }

    /// Half the time after which a silent process is killed, as the manual advises; `None` where nobody watches.
    pub fn watchdog_every(&self) -> Option<Duration> {
        self.watchdog.map(|limit| limit / 2)
    }

    pub fn ready(&self) {
        self.tell("READY=1\n");
    }

    pub fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=stopping\n");
    }

    pub fn alive(&self) {
        self.tell("WATCHDOG=1\n");
    }

    pub fn status(&self, line: &str) {
        let line = &line[..line.floor_char_boundary(STATUS_BYTES_MAX)];
        self.tell(&format!("STATUS={}\n", line.replace('\n', " ")));
    }

    #[cfg(unix)]
    fn tell(&self, words: &str) {
        if let Some(manager) = &self.socket {
            manager.send(words);
        }
    }

    #[cfg(not(unix))]
    fn tell(&self, _words: &str) {}
}

#[cfg(unix)]
mod unix {
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    #[derive(Debug)]
    pub struct Manager {
        socket: UnixDatagram,
        address: SocketAddr,
    }

    impl Manager {
        pub fn connect(name: &str) -> Option<Manager> {
            let found = address(name).and_then(|address| {
                let socket = UnixDatagram::unbound()?;
                socket.set_nonblocking(true)?;
                Ok(Manager { socket, address })
            });
            found
                .inspect_err(
                    |error| tracing::warn!(name, %error, "the service manager cannot be told anything"),
                )
                .ok()
        }

        pub fn send(&self, words: &str) {
            if let Err(error) = self.socket.send_to_addr(words.as_bytes(), &self.address) {
                tracing::debug!(%error, "the service manager missed a word");
            }
        }
    }

    /// A path, or with `@` a name that is no file (Linux).
    fn address(name: &str) -> std::io::Result<SocketAddr> {
        #[cfg(target_os = "linux")]
        if let Some(name) = name.strip_prefix('@') {
            use std::os::linux::net::SocketAddrExt;
            return SocketAddr::from_abstract_name(name.as_bytes());
        }
        SocketAddr::from_pathname(name)
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 1_024];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn a_manager_hears_every_word() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::new(path.to_str(), Some("3000000"), None, 7);
        assert_eq!(notifier.watchdog_every(), Some(Duration::from_millis(1_500)));
        notifier.ready();
        notifier.status("all\nis well");
        notifier.alive();
        notifier.stopping();
        let words: Vec<String> = (0..4).map(|_| heard(&socket)).collect();
        assert_eq!(
            words,
            [
                "READY=1\n",
                "STATUS=all is well\n",
                "WATCHDOG=1\n",
                "STOPPING=1\nSTATUS=stopping\n"
            ]
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_name_that_is_no_file_works_too() {
        use std::os::linux::net::SocketAddrExt;
        let name = format!("watchfold-notify-{}", std::process::id());
        let address = std::os::unix::net::SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        Notifier::new(Some(&format!("@{name}")), None, None, 7).ready();
        assert_eq!(heard(&socket), "READY=1\n");
    }

    #[test]
    fn a_watchdog_of_another_process_is_not_ours() {
        for (micros, pid, want_ms) in [
            (Some("2000000"), Some("7"), Some(1_000)),
            (Some("2000000"), Some("8"), None),
            (Some("0"), None, None),
            (Some("soon"), None, None),
            (None, None, None),
        ] {
            let every = Notifier::new(Some("/nobody/listens"), micros, pid, 7).watchdog_every();
            assert_eq!(every, want_ms.map(Duration::from_millis), "{micros:?} {pid:?}");
        }
        assert_eq!(
            Notifier::new(None, Some("2000000"), None, 7).watchdog_every(),
            None
        );
        // Nobody is there to hear it.
        Notifier::new(Some("/nobody/listens"), None, None, 7).ready();
    }
}
