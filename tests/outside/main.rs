//! Does the built program do what its users see? Each module is one theme, each test starts a server of its own.
//!
//! Nothing of our own code is linked here: only HTTP, the environment, signals and /proc.

#[path = "../kit/mod.rs"]
mod kit;

mod bad_fields;
mod bad_json;
mod bad_query;
mod config;
mod crash;
mod cuts;
mod disk;
mod files;
mod files_archive;
mod files_bytes;
mod files_elsewhere;
mod files_paces;
mod files_search;
mod files_watch;
mod files_wrong;
mod floods;
mod framing;
mod leaks;
mod leftovers;
mod log_lines;
mod many;
mod mcp;
mod mcp_attacks;
mod mcp_clients;
mod mcp_crowd;
mod mcp_modern;
mod mcp_resources;
mod mcp_stdio;
mod mcp_stdio_attacks;
mod mcp_stdio_life;
mod mcp_subscriptions;
mod nfs;
mod nfs_doors;
mod openapi;
mod outliving;
mod pids;
mod pool;
mod pty;
mod pty_answers;
mod pty_leftovers;
mod pty_shared;
mod replay;
mod resume;
mod rootless;
mod run;
mod run_end;
mod shutdown;
mod slow_readers;
mod spine;
mod sse;
mod storm;
mod stream_framing;
mod stuck;
mod terminal;
mod whole;
mod wire;
mod workload;
