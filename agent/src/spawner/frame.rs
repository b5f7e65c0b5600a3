//! What do agent and spawner say to each other? One request at a time, one fixed reply.
//!
//! ```text
//! request: u32 length of the rest │ u8 flags │ u32 argc │ u32 envc │ u16 cols │ u16 rows │ cwd\0 argv\0… env\0…      all little-endian
//!          beside its first byte travel the descriptors: stdin, stdout, stderr, and the next leaf's cgroup.procs if flagged;
//!          with a terminal (flagged, else cols and rows are 0) the first three are the socket to which its master goes
//! reply:   i32 pid │ i32 step │ i32 errno
//!          where a process was made and a next leaf was given, a second one says how entering it went
//! ```
//! The strings carry their NUL, so that the spawner can point into the request instead of copying it.
//! Sans-io. The reply comes from the hostile side: the numbers are checked by who reads them.

use crate::sys::pty::Size;
use crate::sys::spawn::Step;
use std::ffi::CStr;

/// Most strings of argv and environment together: the kernel counts 8 bytes for each against 2 MiB.
pub(crate) const STRINGS_MAX: usize = 256 << 10;
/// Largest request in bytes: a message of the link, with what this format adds.
pub(crate) const REQUEST_BYTES_MAX: usize = (4 << 20) + (1 << 20);
/// Bytes of the length in front.
pub(crate) const LENGTH_BYTES: usize = 4;
/// Bytes of a reply.
pub(crate) const REPLY_BYTES: usize = 12;

const FIXED_BYTES: usize = 13;
const FLAG_ROOT: u8 = 1;
const FLAG_LEAF: u8 = 2;
const FLAG_SUBREAPER: u8 = 4;
const FLAG_TERMINAL: u8 = 8;

/// A request as the spawner reads it; the strings point into the received bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request<'a> {
    /// Become root of the sandbox.
    pub(crate) root: bool,
    /// The next leaf's descriptor came along.
    pub(crate) leaf: bool,
    /// Collect orphaned descendants.
    pub(crate) subreaper: bool,
    /// Make a terminal of this size.
    pub(crate) terminal: Option<Size>,
    /// Absolute path.
    pub(crate) cwd: &'a CStr,
    /// The command and its arguments; at least one.
    pub(crate) argv: Vec<&'a CStr>,
    /// `NAME=value` each.
    pub(crate) env: Vec<&'a CStr>,
}

/// Why bytes are not a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// The announced length is above [`REQUEST_BYTES_MAX`].
    TooLarge,
    /// Fewer strings than announced, or something behind them.
    Strings,
}

/// Lays a request out. No string may hold a NUL: the agent has checked the caller's.
pub(crate) fn encode(request: &Draft<'_>) -> Vec<u8> {
    let strings = || request.argv.iter().copied().chain(request.env.iter().map(|e| e.as_slice()));
    let body = FIXED_BYTES + request.cwd.len() + 1 + strings().map(|s| s.len() + 1).sum::<usize>();
    let mut bytes = Vec::with_capacity(LENGTH_BYTES + body);
    bytes.extend_from_slice(&(body as u32).to_le_bytes());
    let flag = |on: bool, bit: u8| if on { bit } else { 0 };
    bytes.push(
        flag(request.root, FLAG_ROOT)
            | flag(request.leaf, FLAG_LEAF)
            | flag(request.subreaper, FLAG_SUBREAPER)
            | flag(request.terminal.is_some(), FLAG_TERMINAL),
    );
    bytes.extend_from_slice(&(request.argv.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&(request.env.len() as u32).to_le_bytes());
    let size = request.terminal.unwrap_or(Size { cols: 0, rows: 0 });
    bytes.extend_from_slice(&size.cols.to_le_bytes());
    bytes.extend_from_slice(&size.rows.to_le_bytes());
    for string in [request.cwd].into_iter().chain(strings()) {
        bytes.extend_from_slice(string);
        bytes.push(0);
    }
    bytes
}

/// A request as the agent writes it.
pub(crate) struct Draft<'a> {
    pub(crate) root: bool,
    pub(crate) leaf: bool,
    pub(crate) subreaper: bool,
    pub(crate) terminal: Option<Size>,
    pub(crate) cwd: &'a [u8],
    pub(crate) argv: &'a [&'a [u8]],
    pub(crate) env: &'a [Vec<u8>],
}

/// How many bytes follow the length `prefix`.
pub(crate) fn body_length(prefix: [u8; LENGTH_BYTES]) -> Result<usize, Malformed> {
    let length = u32::from_le_bytes(prefix) as usize;
    if length > REQUEST_BYTES_MAX { Err(Malformed::TooLarge) } else { Ok(length) }
}

impl<'a> Request<'a> {
    /// Reads the body: all that follows the length.
    pub(crate) fn parse(body: &'a [u8]) -> Result<Request<'a>, Malformed> {
        let (fixed, mut rest) = body.split_at_checked(FIXED_BYTES).ok_or(Malformed::Strings)?;
        let number = |at: usize| u32::from_le_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]) as usize;
        let (flags, argc, envc) = (fixed[0], number(1), number(5));
        if argc == 0 || argc > STRINGS_MAX || envc > STRINGS_MAX {
            return Err(Malformed::Strings);
        }
        let mut next = || {
            let string = CStr::from_bytes_until_nul(rest).map_err(|_| Malformed::Strings)?;
            rest = &rest[string.to_bytes_with_nul().len()..];
            Ok(string)
        };
        let cwd = next()?;
        let argv = (0..argc).map(|_| next()).collect::<Result<Vec<_>, _>>()?;
        let env = (0..envc).map(|_| next()).collect::<Result<Vec<_>, _>>()?;
        if !rest.is_empty() {
            return Err(Malformed::Strings);
        }
        let is = |bit: u8| flags & bit != 0;
        let half = |at: usize| u16::from_le_bytes([fixed[at], fixed[at + 1]]);
        let terminal = is(FLAG_TERMINAL).then(|| Size { cols: half(9), rows: half(11) });
        let (root, leaf, subreaper) = (is(FLAG_ROOT), is(FLAG_LEAF), is(FLAG_SUBREAPER));
        Ok(Request { root, leaf, subreaper, terminal, cwd, argv, env })
    }
}

/// What the spawner answers: the pid of the process (0: none), and the step at which it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) pid: i32,
    pub(crate) step: Step,
    pub(crate) errno: i32,
}

impl Reply {
    /// The twelve bytes.
    pub(crate) fn encode(self) -> [u8; REPLY_BYTES] {
        let mut bytes = [0; REPLY_BYTES];
        for (piece, number) in bytes.chunks_exact_mut(4).zip([self.pid, self.step as i32, self.errno]) {
            piece.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// `None`: a step that does not exist.
    pub(crate) fn parse(bytes: [u8; REPLY_BYTES]) -> Option<Reply> {
        let number = |at: usize| i32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        Some(Reply { pid: number(0), step: Step::from_number(number(4))?, errno: number(8) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        encode(&Draft {
            root: true,
            leaf: false,
            subreaper: true,
            terminal: Some(Size { cols: 300, rows: 24 }),
            cwd: b"/workspace",
            argv: &[b"sh", b"-c", b"", b"echo \xff"],
            env: &[b"PATH=/bin".to_vec(), b"A=".to_vec()],
        })
    }

    #[test]
    fn a_request_comes_back() {
        let bytes = sample();
        let length = body_length([bytes[0], bytes[1], bytes[2], bytes[3]]).unwrap();
        assert_eq!(length, bytes.len() - LENGTH_BYTES);
        let request = Request::parse(&bytes[LENGTH_BYTES..]).unwrap();
        assert!(request.root && !request.leaf && request.subreaper);
        assert_eq!(request.terminal, Some(Size { cols: 300, rows: 24 }));
        assert_eq!(request.cwd, c"/workspace");
        assert_eq!(request.argv, [c"sh", c"-c", c"", c"echo \xff"]);
        assert_eq!(request.env, [c"PATH=/bin", c"A="]);
    }

    #[test]
    fn every_cut_and_every_addition_is_refused() {
        let bytes = sample();
        let body = &bytes[LENGTH_BYTES..];
        for cut in 0..body.len() {
            assert_eq!(Request::parse(&body[..cut]), Err(Malformed::Strings), "cut at {cut}");
        }
        let longer = [body, b"x\0"].concat();
        assert_eq!(Request::parse(&longer), Err(Malformed::Strings));
    }

    #[test]
    fn every_changed_byte_is_refused_or_a_request() {
        let bytes = sample();
        for at in LENGTH_BYTES..bytes.len() {
            for value in [0u8, 1, 0x7f, 0xff] {
                let mut changed = bytes.clone();
                changed[at] = value;
                let _ = Request::parse(&changed[LENGTH_BYTES..]);
            }
        }
    }

    #[test]
    fn lengths_are_bounded() {
        assert_eq!(body_length(u32::MAX.to_le_bytes()), Err(Malformed::TooLarge));
        assert_eq!(body_length((REQUEST_BYTES_MAX as u32).to_le_bytes()), Ok(REQUEST_BYTES_MAX));
    }

    #[test]
    fn a_reply_comes_back_and_unknown_steps_do_not() {
        let reply = Reply { pid: 7, step: Step::Exec, errno: 2 };
        assert_eq!(Reply::parse(reply.encode()), Some(reply));
        let mut bytes = reply.encode();
        bytes[4] = 99;
        assert_eq!(Reply::parse(bytes), None);
    }

    #[test]
    fn no_bytes_make_a_request_that_is_not_one() {
        let sample = sample();
        let corpus: [&[u8]; 2] = [&sample[LENGTH_BYTES..], b"\x01\x00\x00\x00/\x00sh\x00"];
        crate::fuzz::run(
            |input| {
                if let Ok(request) = Request::parse(input) {
                    assert!(!request.argv.is_empty(), "a request names a command");
                }
            },
            &corpus,
        );
    }

    #[test]
    fn every_reply_that_is_read_is_written_the_same() {
        let corpus: [&[u8]; 1] = [&Reply { pid: 7, step: Step::Exec, errno: 2 }.encode()];
        crate::fuzz::run(
            |input| {
                let Ok(bytes) = <[u8; REPLY_BYTES]>::try_from(input) else { return };
                if let Some(reply) = Reply::parse(bytes) {
                    assert_eq!(reply.encode(), bytes);
                }
            },
            &corpus,
        );
    }
}
