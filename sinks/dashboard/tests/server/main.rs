//! The whole dashboard on a loopback port, asked by real HTTP and WebSocket clients.

mod acts;
mod alarms;
mod auth;
mod catching_up;
mod connections;
mod described;
mod explain;
mod harness;
mod hostile;
mod invented;
mod live;
mod prefix;
mod reads;
