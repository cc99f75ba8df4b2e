//! A small site with real addresses: a router that is the switch too, a server, 20 PCs, and two hosts of "the
//! internet" that only the router leads to. The test itself and the watcher stand at 192.168.7.2.

use crate::inside::sh;

pub const PCS: u32 = 20;

/// These PCs answer ARP and nothing else.
pub fn drops_echo(pc: u32) -> bool {
    pc.is_multiple_of(5)
}

/// Builds everything; the PCs are switched off.
pub fn build() {
    sh("ip netns add router
        ip link add lan0 type veth peer name watcher netns router
        ip netns exec router sysctl -qw net.ipv4.ip_forward=1
        ip -n router link set lo up
        ip -n router link add br0 type bridge
        ip -n router link set watcher master br0 up
        ip -n router link set br0 up
        ip -n router addr add 192.168.7.1/24 dev br0
        ip link set lan0 up
        ip addr add 192.168.7.2/24 dev lan0
        ip route add default via 192.168.7.1");
    host("server", "192.168.7.10");
    internet("google", "8.8.8.8", 1);
    internet("cloudflare", "1.1.1.1", 2);
    for pc in 1..=PCS {
        let name = format!("pc{pc}");
        host(&name, &format!("192.168.7.{}", 109 + pc));
        if drops_echo(pc) {
            sh(&format!(
                "ip netns exec {name} sysctl -qw net.ipv4.icmp_echo_ignore_all=1"
            ));
        }
    }
    pcs("down");
}

/// A host on the local network.
fn host(name: &str, address: &str) {
    sh(&format!(
        "ip netns add {name}
         ip link add {name} netns router type veth peer name lan0 netns {name}
         ip -n router link set {name} master br0 up
         ip -n {name} link set lan0 up
         ip -n {name} addr add {address}/24 dev lan0
         ip -n {name} route add default via 192.168.7.1"
    ));
}

/// A host behind the router's other side.
fn internet(name: &str, address: &str, link: u8) {
    sh(&format!(
        "ip netns add {name}
         ip link add {name} netns router type veth peer name wan0 netns {name}
         ip -n router link set {name} up
         ip -n router addr add 10.0.{link}.1/30 dev {name}
         ip -n {name} link set lo up
         ip -n {name} link set wan0 up
         ip -n {name} addr add 10.0.{link}.2/30 dev wan0
         ip -n {name} addr add {address}/32 dev lo
         ip -n {name} route add default via 10.0.{link}.1
         ip -n router route add {address}/32 via 10.0.{link}.2"
    ));
}

/// Switches the server, or a PC called `pc7`, `up` or `down`.
pub fn switch(host: &str, to: &str) {
    sh(&format!("ip -n {host} link set lan0 {to}"));
    if to == "up" {
        sh(&format!("ip -n {host} route replace default via 192.168.7.1"));
    }
}

/// Plugs the cable of a host of the internet in or out.
pub fn internet_link(host: &str, to: &str) {
    sh(&format!("ip -n {host} link set wan0 {to}"));
    if to == "up" {
        let link = if host == "google" { 1 } else { 2 };
        sh(&format!("ip -n {host} route replace default via 10.0.{link}.1"));
    }
}

/// The router takes the whole network with it.
pub fn router(to: &str) {
    sh(&format!("ip -n router link set br0 {to}"));
}

/// All PCs at once.
pub fn pcs(to: &str) {
    (1..=PCS).for_each(|pc| switch(&format!("pc{pc}"), to));
}
