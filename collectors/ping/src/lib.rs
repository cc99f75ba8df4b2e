//! Probes targets and PCs: echo, neighbour table, DNS, TCP and HTTPS.
