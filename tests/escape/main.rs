//! Do the walls hold? Each module is a group of claims, each test an attack that really runs inside a sandbox.
//!
//! ```text
//! programs/*.c   the attacks: one line a step, with a nonce; no line, no pass
//! program.rs     compiles one inside the sandbox, or on the host for a weak setup, and reads its lines
//! swap.rs        a directory and a link that change places while calls go through them
//! weak.rs        setups in which the same program must succeed: the proof that the test can fail
//! case.rs        a server, a sandbox, a neighbour that must go on answering, as root and as an ordinary user
//! invariants.rs  what must be as before, after every attack and its DELETE
//! ```
//! The refusal of a call is asserted as the errno of our own filter, because a kernel without the feature refuses too.

#[path = "../kit/mod.rs"]
mod kit;

mod case;
mod invariants;
mod program;
mod swap;
mod weak;

mod agent;
mod bombs;
mod elsewhere;
mod environment;
mod files;
mod filter;
mod identity;
mod ipc;
mod kernel;
mod nfs_tree;
mod nfs_wire;
mod root;
mod terminals;
mod users;
mod work;
