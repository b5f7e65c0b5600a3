//! What every test of the built program stands on: a server of its own, a raw client, and a look at the host.
//!
//! ```text
//! turn::shared/heavy/alone   who may run beside whom
//! Server::builder().start()  the program on a port and data directory of its own; Drop ends it and counts what is left
//! server.request(…)          HTTP by hand: nothing between the test and the bytes
//! server.events(…)           the events of a stream, read as a browser reads them
//! Place::new().start()       the program at a client's pipes, with no server beside it
//! Browser::start(&server)    a real browser, by what people see in it
//! Nfs::connect(address)      NFSv3 by hand
//! Host::of(&server)          what of this server the host can see: processes, cgroups, mounts, namespaces, files
//! ```
//! It knows the program by its documented surface alone: routes, variables, the files `http.address` and `nfs.address`, its children in /proc.

#![allow(dead_code, unused_imports, reason = "each test program uses its own part of the kit")]

mod browser;
mod cgroup;
mod client;
mod ending;
mod events;
mod host;
mod mcp;
mod mcp_told;
pub(crate) mod nfs_client;
pub(crate) mod nfs_guest;
mod process;
mod server;
mod start;
mod started;
mod stdio;
pub(crate) mod sys;
pub(crate) mod turn;
mod unit;
mod wait;
mod websocket;

pub(crate) use browser::Browser;
pub(crate) use client::{Client, Response, encode, with_query};
pub(crate) use events::{Event, Events, Parser};
pub(crate) use host::Host;
pub(crate) use mcp::{Mcp, messages, modern};
pub(crate) use mcp_told::Told;
pub(crate) use nfs_client::{Nfs, Xdr};
pub(crate) use process::{Process, cpu_ticks, descendants, processes};
pub(crate) use server::Server;
pub(crate) use start::{Builder, Ended};
pub(crate) use stdio::{Place, Stdio};
pub(crate) use wait::{until, until_some, within};
pub(crate) use websocket::{Message, WebSocket};

/// True, and says so, where the test must be skipped because it is not run as root.
pub(crate) fn needs_root() -> bool {
    let missing = !is_root() || server::as_ranged_user();
    if missing {
        println!("skipped: needs root");
    }
    missing
}

/// Whether the test runs as root.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
