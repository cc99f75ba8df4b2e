#!/usr/bin/env bash
# Prints what the all-in-one command takes while nothing happens: start-up time, resident memory and CPU share, with 3
# targets and 20 PCs on a network of its own. A measure, not a test. SECONDS_MEASURED=60 is how long it looks.
set -euo pipefail
measured=${SECONDS_MEASURED:-60}

if [ "${1:-}" != inside ]; then
    cd "$(dirname "$0")/.."
    cargo build --release --locked --quiet --package watchfold
    binary=$(realpath "${CARGO_TARGET_DIR:-target}/release/watchfold")
    as_root=()
    [ "$(id -u)" = 0 ] || as_root=(--map-root-user)
    exec unshare --net --mount --pid --fork --kill-child --mount-proc "${as_root[@]}" bash "$0" inside "$binary"
fi
binary=$2

# One namespace holds the router, the server, the internet's two hosts and all PCs; every fifth PC drops echo.
mount -t tmpfs tmpfs /run
mkdir -p /run/netns
ip link set lo up
ip netns add lan
ip link add lan0 type veth peer name lan0 netns lan
ip link set lan0 up
ip addr add 192.168.7.2/24 dev lan0
ip route add default via 192.168.7.1
ip -n lan link set lo up
ip -n lan link set lan0 up
for address in 192.168.7.1 192.168.7.10 $(seq -f '192.168.7.%.0f' 110 129); do
    ip -n lan addr add "$address/24" dev lan0
done
ip -n lan addr add 8.8.8.8/32 dev lo
ip -n lan addr add 1.1.1.1/32 dev lo

data=$(mktemp -d)
trap 'rm -rf "$data"' EXIT
cat >"$data/watchfold.toml" <<'TOML'
site = "cafe-1"
[[network.targets]]
name = "router"
address = "192.168.7.1"
[[network.targets]]
name = "server"
address = "192.168.7.10"
depends_on = ["router"]
[[network.targets]]
name = "internet"
address = ["8.8.8.8", "1.1.1.1"]
depends_on = ["router"]
[occupancy]
ranges = [{ from = "192.168.7.110", count = 20 }]
TOML
chmod 600 "$data/watchfold.toml"

# Without a process for each look, which would take longer than what is measured.
ready() {
    local line
    exec 3<>/dev/tcp/127.0.0.1/8737 || return 1
    printf 'GET /readyz HTTP/1.0\r\nHost: localhost\r\n\r\n' >&3
    read -r line <&3
    exec 3>&-
    [[ $line == *" 200 "* ]]
}

start() {
    local began=$EPOCHREALTIME
    "$binary" up --data "$data" >"$data/said" 2>&1 &
    pid=$!
    until ready 2>/dev/null; do
        kill -0 "$pid" || { cat "$data/said"; exit 1; }
        sleep 0.002
    done
    local ended=$EPOCHREALTIME
    echo "$1: ready after $(((${ended/./} - ${began/./}) / 1000)) ms"
}

jiffies() {
    awk '{ print $14 + $15 }' "/proc/$pid/stat"
}

start "first start, empty directory"
sleep 5
before=$(jiffies)
sleep "$measured"
used=$(($(jiffies) - before))
awk -v used="$used" -v hz="$(getconf CLK_TCK)" -v s="$measured" \
    'BEGIN { printf "CPU: %.2f %% of a core over %d s\n", used * 100 / hz / s, s }'
awk '/^(VmRSS|VmHWM|RssAnon|RssFile):/ { printf "%s %.1f MB\n", $1, $2 / 1000 }' "/proc/$pid/status"
kill -TERM "$pid"
wait "$pid"
start "second start, with what the first left"
kill -TERM "$pid"
wait "$pid"
