//! Is every record answered, whatever stands where the arguments of the 22 procedures and of MOUNT should?
//!
//! The whole path of a call on a real tree of its own: records are made from calls with handles that this server gave
//! out, then cut and mutated. What a mutation can reach is one directory that nobody else uses.

use super::dispatch::{Dispatch, Outcome, Turn};
use super::pages::Pages;
use crate::wire::rpc::{self, Refused};
use crate::wire::rpc_record::RECORD_BYTES_MAX;
use crate::wire::xdr::{put_opaque, put_u32, put_u64};
use nfsserve::nfs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::OnceLock;
use workspace_core::SandboxId;
use workspace_core::export::{Clients, Exports};
use workspace_core::files::{Files, Numbering};

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Length of a record, xid, REPLY, accepted, a verifier of none, how it was accepted.
const HEAD_BYTES: usize = 4 + 24;
const GARBAGE_ARGUMENTS: u32 = 4;

/// Adds one argument.
type Part<'a> = &'a dyn Fn(&mut Vec<u8>);

struct Ground {
    dispatch: Dispatch,
    id: SandboxId,
    top: PathBuf,
}

/// One sandbox's tree in a directory of its own, which the caller removes.
pub(super) fn tree(name: &str) -> (Exports, SandboxId, PathBuf) {
    let top = std::env::temp_dir().join(format!("workspace-nfs-{name}-{}", std::process::id()));
    let id = SandboxId::from_random([3; 20]);
    for name in ["workspace", "home"] {
        std::fs::create_dir_all(top.join(id.as_str()).join(name)).unwrap();
    }
    let files = Files::start(&top, Numbering::Single, 1).unwrap();
    let find = move |asked| (asked == id).then_some((0, 64 << 20));
    (Exports::new(&files, [7; 32], Box::new(find), Clients::Guarded).unwrap(), id, top)
}

/// One server for all targets here.
fn ground() -> &'static Ground {
    static GROUND: OnceLock<Ground> = OnceLock::new();
    GROUND.get_or_init(|| {
        let (exports, id, top) = tree("fuzz");
        Ground { dispatch: Dispatch::new(exports), id, top }
    })
}

/// A call by root, without the length before it.
pub(super) fn record(program: u32, procedure: u32, arguments: &[u8]) -> Vec<u8> {
    let mut record = Vec::new();
    // xid, CALL, RPC 2; AUTH_SYS of root without a name and with one group; no verifier.
    let head = [procedure + 77, 0, 2, program, 3, procedure, 1, 24, 0, 0, 0, 0, 1, 5, 0, 0];
    head.iter().for_each(|word| put_u32(&mut record, *word));
    record.extend_from_slice(arguments);
    record
}

fn answer(record: &[u8]) -> (Outcome, Vec<u8>) {
    let mut out = Vec::new();
    let mut pages = Pages::default();
    let outcome = ground().dispatch.call(PEER, record, &mut out, &mut Turn { waits: &|| (), pages: &mut pages });
    if pages.bytes() > 0 {
        let behind = out.split_off(pages.at());
        pages.pour(&mut out).unwrap();
        out.extend(behind);
    }
    (outcome, out)
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// The handle in a reply, where the answer has it so many bytes behind the status.
fn handle_of(program: u32, procedure: u32, arguments: &[u8], behind: usize) -> Vec<u8> {
    let (_, reply) = answer(&record(program, procedure, arguments));
    assert_eq!(word(&reply, HEAD_BYTES), 0, "procedure {procedure}");
    let at = HEAD_BYTES + 4 + behind;
    reply[at + 4..at + 4 + word(&reply, at) as usize].to_vec()
}

/// Arguments put together.
fn xdr(parts: &[Part<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    parts.iter().for_each(|part| part(&mut bytes));
    bytes
}

fn words(words: &[u32]) -> impl Fn(&mut Vec<u8>) {
    move |to| words.iter().for_each(|word| put_u32(to, *word))
}

fn bytes(bytes: &[u8]) -> impl Fn(&mut Vec<u8>) {
    move |to| put_opaque(to, bytes)
}

fn number(number: u64) -> impl Fn(&mut Vec<u8>) {
    move |to| put_u64(to, number)
}

/// One call of each procedure, as a kernel makes it, and MOUNT's six.
fn calls() -> Vec<Vec<u8>> {
    const MOUNT: u32 = 100_005;
    // Mode, uid, size and both times by the client; then nothing at all.
    let all = words(&[1, 0o644, 1, 1000, 0, 1, 0, 9, 2, 5, 6, 2, 7, 8]);
    let none = words(&[0; 6]);
    let path = format!("/{}", ground().id);
    let mount = xdr(&[&bytes(path.as_bytes())]);
    let root = handle_of(MOUNT, 1, &mount, 0);
    let root = bytes(&root);
    // A maker says first that a handle is there.
    let file = handle_of(nfs::PROGRAM, 8, &xdr(&[&root, &bytes(b"file"), &words(&[0]), &none]), 4);
    let link = handle_of(nfs::PROGRAM, 10, &xdr(&[&root, &bytes(b"link"), &none, &bytes(b"file")]), 4);
    let (file, link) = (bytes(&file), bytes(&link));
    let (entry, other) = (bytes(b"entry"), bytes(b"other"));
    let of_nfs: [&[Part<'_>]; 22] = [
        &[],
        &[&file],
        &[&file, &all, &words(&[1, 3, 4])],
        &[&root, &bytes(b"file")],
        &[&file, &words(&[0x3f])],
        &[&link],
        &[&file, &number(3), &words(&[1 << 20])],
        &[&file, &number(1), &words(&[5, 0]), &bytes(b"hello")],
        &[&root, &entry, &words(&[2, 1, 2])],
        &[&root, &bytes(b"directory"), &all],
        &[&root, &bytes(b"symlink"), &none, &bytes(b"to/somewhere")],
        &[&root, &bytes(b"fifo"), &words(&[7]), &none],
        &[&root, &other],
        &[&root, &bytes(b"directory")],
        &[&root, &entry, &root, &other],
        &[&file, &root, &bytes(b"second name")],
        &[&root, &number(0), &number(0), &words(&[4096])],
        &[&root, &number(0), &number(0), &words(&[4096, 8192])],
        &[&root],
        &[&root],
        &[&root],
        &[&file, &number(0), &words(&[0])],
    ];
    let mut calls: Vec<Vec<u8>> =
        (0..).zip(of_nfs).map(|(procedure, parts)| record(nfs::PROGRAM, procedure, &xdr(parts))).collect();
    // The other ways to make and to set.
    calls.push(record(nfs::PROGRAM, 8, &xdr(&[&root, &bytes(b"guarded"), &words(&[1]), &all])));
    calls.push(record(nfs::PROGRAM, 11, &xdr(&[&root, &bytes(b"device"), &words(&[3]), &none, &words(&[8, 1])])));
    calls.push(record(nfs::PROGRAM, 2, &xdr(&[&root, &words(&[0, 0, 0, 0, 1, 1]), &words(&[0])])));
    for procedure in 0..6 {
        let arguments = if matches!(procedure, 1 | 3) { &mount[..] } else { &[] };
        calls.push(record(MOUNT, procedure, arguments));
    }
    calls
}

/// Each record is answered by one whole record that names its call, or is no call at all.
fn any_record(input: &[u8]) {
    let (outcome, reply) = answer(input);
    match outcome {
        Outcome::Reply => {
            assert_eq!(word(&reply, 0), 0x8000_0000 | (reply.len() - 4) as u32);
            assert_eq!((&reply[4..8], word(&reply, 8)), (&input[..4], 1));
            assert!(reply.len() <= RECORD_BYTES_MAX && reply.len().is_multiple_of(4));
        }
        Outcome::End => assert_eq!(rpc::read(input).map(|_| ()), Err(Refused::NoCall)),
        Outcome::Silence => panic!("nobody else calls"),
    }
}

#[test]
fn any_record_is_answered() {
    let calls = calls();
    // What a call is made for is done, so that a mutation begins where it can do harm.
    for call in &calls {
        let (outcome, reply) = answer(call);
        assert_eq!((outcome, word(&reply, HEAD_BYTES - 4)), (Outcome::Reply, 0), "{call:?}");
    }
    // Cut anywhere, its arguments are garbage, and nothing is read that is not there.
    let head_bytes = record(nfs::PROGRAM, 0, &[]).len();
    for call in &calls {
        // UMNT's argument is not looked at.
        let is_read = (word(call, 12), word(call, 20)) != (100_005, 3);
        for cut in (head_bytes..call.len()).filter(|_| is_read) {
            let (_, reply) = answer(&call[..cut]);
            assert_eq!(
                (reply.len(), word(&reply, HEAD_BYTES - 4)),
                (HEAD_BYTES, GARBAGE_ARGUMENTS),
                "{cut} of {call:?}"
            );
        }
    }
    let corpus: Vec<&[u8]> = calls.iter().map(Vec::as_slice).collect();
    crate::fuzz::run(any_record, &corpus);
    std::fs::remove_dir_all(&ground().top).unwrap();
}
