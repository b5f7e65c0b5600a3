//! Terminals: what one is, what its viewers type and see, and why a viewer sees no more.
//!
//! The bytes of a terminal are passed on as they are. Nothing here answers what a program asks its terminal: that is
//! for the viewers' terminals, and what is replayed to a late viewer may hold old questions.

use crate::process::{Ending, RunCommand};
use bytes::Bytes;

/// Columns and rows, at most.
pub const SIZE_MAX: u32 = 4096;

/// The size of a terminal, in characters: both 1..=[`SIZE_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Characters of a row.
    pub cols: u32,
    /// Rows.
    pub rows: u32,
}

impl Size {
    /// `None` where a terminal can't have it.
    pub fn new(cols: u32, rows: u32) -> Option<Size> {
        let fits = |n: u32| (1..=SIZE_MAX).contains(&n);
        (fits(cols) && fits(rows)).then_some(Size { cols, rows })
    }
}

/// A terminal to open, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenPty {
    /// The program on it; its timeout, stdin and output bound have no meaning.
    pub program: RunCommand,
    /// At first.
    pub size: Size,
}

/// An open terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pty {
    /// 1 and up, never used again in its sandbox.
    pub id: u64,
    /// Of its program, inside the sandbox.
    pub pid: u32,
    /// Now.
    pub size: Size,
    /// The program as it was asked for; what is not UTF-8 is replaced.
    pub command: String,
    /// Wall clock, µs since 1970.
    pub started_us: u64,
}

/// What a viewer does to a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Typed {
    /// Bytes for the program.
    Input(Bytes),
    /// Another size; the last one wins among all viewers.
    Size(Size),
}

/// What a viewer sees of a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// 1 byte to 64 KiB.
    Output(Bytes),
    /// Its program has ended; there is no more.
    Ended(Ending),
}

/// Why a viewer sees no more of a terminal that may live on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Away {
    /// More was printed than is kept for a viewer.
    TooSlow,
    /// The sandbox has ended, or is being deleted.
    SandboxEnded,
    /// The sandbox lives, but its agent can't be heard any more.
    LinkLost,
}
