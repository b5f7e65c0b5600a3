//! The procedures of NFSv3 that change nothing.
//!
//! A reply is written as it is found out; where something that is known last stands first, its place is kept.

use super::answer::{ATTRIBUTES_BYTES, put_attributes, put_fault, put_ok, put_some};
use super::arguments::{handle, name};
use super::dispatch::Turn;
use crate::wire::xdr::{Garbage, Reader, padding, put, put_opaque, put_padding, put_u32, put_u64};
use nfsserve::nfs::{FSF_CANSETTIME, FSF_HOMOGENEOUS, FSF_LINK, FSF_SYMLINK, nfsstat3};
use workspace_core::export::{Attributes, Caller, Exports, ListEntry, ListWanted, ReadTo};

/// The largest READ and WRITE.
pub(super) const TRANSFER_BYTES_MAX: u32 = 1 << 20;
/// Of a READ that is not known to take long: what is in memory is copied within some microseconds.
const SHORT_READ_BYTES_MAX: u32 = 64 << 10;
const DIRECTORY_BYTES_PREFERRED: u32 = 128 << 10;
const FILE_BYTES_MAX: u64 = i64::MAX as u64;
const LINKS_MAX: u32 = 32_000;
const NAME_BYTES_MAX: u32 = 255;

pub(super) fn getattr(exports: &Exports, arguments: &mut Reader<'_>, out: &mut Vec<u8>) -> Result<(), Garbage> {
    match handle(arguments)?.and_then(|handle| exports.attributes(&handle)) {
        Ok(attributes) => {
            put_ok(out);
            put_attributes(out, &attributes);
        }
        Err(fault) => put_fault(out, fault),
    }
    Ok(())
}

pub(super) fn lookup(
    exports: &Exports,
    caller: &Caller,
    arguments: &mut Reader<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Garbage> {
    let (directory, name) = (handle(arguments)?, name(arguments)?);
    let (found, around) = match directory {
        Ok(directory) => exports.lookup(caller, &directory, name),
        Err(fault) => (Err(fault), None),
    };
    match found {
        Ok(entry) => {
            put_ok(out);
            put_opaque(out, entry.handle.as_bytes());
            put_some(out, Some(&entry.attributes));
        }
        Err(fault) => put_fault(out, fault),
    }
    put_some(out, around.as_ref());
    Ok(())
}

pub(super) fn access(
    exports: &Exports,
    caller: &Caller,
    arguments: &mut Reader<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Garbage> {
    let (handle, asked) = (handle(arguments)?, arguments.u32()?);
    match handle.and_then(|handle| exports.access(caller, &handle, asked)) {
        Ok((granted, attributes)) => {
            put_ok(out);
            put_some(out, Some(&attributes));
            put_u32(out, granted);
        }
        Err(fault) => {
            put_fault(out, fault);
            put_some(out, None);
        }
    }
    Ok(())
}

pub(super) fn readlink(
    exports: &Exports,
    caller: &Caller,
    arguments: &mut Reader<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Garbage> {
    match handle(arguments)?.and_then(|handle| exports.link_target(caller, &handle)) {
        Ok((target, attributes)) => {
            put_ok(out);
            put_some(out, Some(&attributes));
            put_opaque(out, &target);
        }
        Err(fault) => {
            put_fault(out, fault);
            put_some(out, None);
        }
    }
    Ok(())
}

pub(super) fn read(
    exports: &Exports,
    caller: &Caller,
    arguments: &mut Reader<'_>,
    out: &mut Vec<u8>,
    turn: &mut Turn<'_>,
) -> Result<(), Garbage> {
    let (handle, offset, count) = (handle(arguments)?, arguments.u64()?, arguments.u32()?);
    let is_long = count > SHORT_READ_BYTES_MAX;
    if is_long {
        (turn.waits)();
    }
    let start = out.len();
    put_ok(out);
    let room = keep_room(out);
    // Count, end of file, and the length of the bytes, which are known when these have been read.
    let counts = out.len();
    out.extend_from_slice(&[0; 12]);
    let data = out.len();
    let count = count.min(TRANSFER_BYTES_MAX);
    let end = handle.and_then(|handle| {
        if is_long && let Some(pipe) = turn.pages.entrance() {
            let end = exports.read(caller, &handle, offset, ReadTo::Pipe(pipe), count, turn.waits);
            match end {
                Ok(end) => {
                    turn.pages.hold(end.bytes as usize, data);
                    return Ok(end);
                }
                // A file system that can't; what else may be wrong is so by memory too.
                Err(_) => turn.pages.spoil(),
            }
        }
        exports.read(caller, &handle, offset, ReadTo::Memory(out), count, turn.waits)
    });
    match end {
        Ok(end) => {
            put_padding(out, end.bytes as usize);
            out[counts..counts + 4].copy_from_slice(&end.bytes.to_be_bytes());
            out[counts + 4..counts + 8].copy_from_slice(&u32::from(end.eof).to_be_bytes());
            out[counts + 8..data].copy_from_slice(&end.bytes.to_be_bytes());
            fill_room(out, room, end.attributes.as_ref());
        }
        Err(fault) => {
            out.truncate(start);
            put_fault(out, fault);
            put_some(out, None);
        }
    }
    Ok(())
}

/// READDIR and READDIRPLUS, which differ in what an entry carries and in how a client bounds the reply.
pub(super) fn list(
    exports: &Exports,
    caller: &Caller,
    plus: bool,
    arguments: &mut Reader<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Garbage> {
    let (directory, cookie, verifier) = (handle(arguments)?, arguments.u64()?, arguments.u64()?);
    let first = arguments.u32()?.min(TRANSFER_BYTES_MAX) as usize;
    // Of READDIRPLUS the first bounds names, ids and cookies alone, the second all of it.
    let (names_max, bytes_max) =
        if plus { (first, arguments.u32()?.min(TRANSFER_BYTES_MAX) as usize) } else { (first, first) };
    let start = out.len();
    put_ok(out);
    let room = keep_room(out);
    let verifier_at = out.len();
    put_u64(out, 0);
    let first_entry = out.len();
    // The end of the list: no entry more, and whether it is the directory's end.
    let end_at = start + bytes_max.saturating_sub(8);
    let (mut names, mut entries, mut too_small) = (0, 0usize, false);
    let mut each = |entry: ListEntry<'_>| {
        let name_bytes = 4 + 8 + 4 + entry.name.len() + padding(entry.name.len()) + 8;
        let before = out.len();
        put_entry(out, &entry, plus);
        let fits = out.len() <= end_at && (!plus || names + name_bytes <= names_max);
        if fits {
            names += name_bytes;
            entries += 1;
        } else {
            out.truncate(before);
            too_small = entries == 0;
        }
        fits
    };
    let wanted =
        if plus { ListWanted::All { room_bytes: bytes_max } } else { ListWanted::Names { room_bytes: bytes_max } };
    let listed = directory.and_then(|directory| exports.list(caller, &directory, cookie, verifier, wanted, &mut each));
    match listed {
        Ok(_) if too_small || end_at < first_entry => {
            out.truncate(start);
            put(out, &nfsstat3::NFS3ERR_TOOSMALL);
            put_some(out, None);
        }
        Ok(end) => {
            put_u32(out, 0);
            put_u32(out, u32::from(end.eof));
            out[verifier_at..verifier_at + 8].copy_from_slice(&end.verifier.to_be_bytes());
            fill_room(out, room, end.attributes.as_ref());
        }
        Err(fault) => {
            out.truncate(start);
            put_fault(out, fault);
            put_some(out, None);
        }
    }
    Ok(())
}

fn put_entry(out: &mut Vec<u8>, entry: &ListEntry<'_>, plus: bool) {
    put_u32(out, 1);
    put_u64(out, entry.fileid);
    put_opaque(out, entry.name);
    put_u64(out, entry.cookie);
    if !plus {
        return;
    }
    put_some(out, entry.attributes.as_ref());
    match &entry.handle {
        Some(handle) => {
            put_u32(out, 1);
            put_opaque(out, handle.as_bytes());
        }
        None => put_u32(out, 0),
    }
}

pub(super) fn fsstat(exports: &Exports, arguments: &mut Reader<'_>, out: &mut Vec<u8>) -> Result<(), Garbage> {
    match handle(arguments)?.and_then(|handle| exports.space(&handle)) {
        Ok((space, attributes)) => {
            put_ok(out);
            put_some(out, attributes.as_ref());
            for figure in [
                space.total_bytes,
                space.free_bytes,
                space.available_bytes,
                space.total_files,
                space.free_files,
                space.available_files,
            ] {
                put_u64(out, figure);
            }
            put_u32(out, 0); // how long this stays true: not known
        }
        Err(fault) => {
            put_fault(out, fault);
            put_some(out, None);
        }
    }
    Ok(())
}

pub(super) fn fsinfo(exports: &Exports, arguments: &mut Reader<'_>, out: &mut Vec<u8>) -> Result<(), Garbage> {
    match handle(arguments)?.and_then(|handle| exports.attributes(&handle)) {
        Ok(attributes) => {
            put_ok(out);
            put_some(out, Some(&attributes));
            // READ, WRITE: largest, preferred, a multiple of; then READDIR.
            for word in [TRANSFER_BYTES_MAX, TRANSFER_BYTES_MAX, 4096].repeat(2) {
                put_u32(out, word);
            }
            put_u32(out, DIRECTORY_BYTES_PREFERRED);
            put_u64(out, FILE_BYTES_MAX);
            // Times are exact to a nanosecond.
            put_u64(out, 1);
            put_u32(out, FSF_LINK | FSF_SYMLINK | FSF_HOMOGENEOUS | FSF_CANSETTIME);
        }
        Err(fault) => {
            put_fault(out, fault);
            put_some(out, None);
        }
    }
    Ok(())
}

pub(super) fn pathconf(exports: &Exports, arguments: &mut Reader<'_>, out: &mut Vec<u8>) -> Result<(), Garbage> {
    match handle(arguments)?.and_then(|handle| exports.attributes(&handle)) {
        Ok(attributes) => {
            put_ok(out);
            put_some(out, Some(&attributes));
            // no_trunc, chown_restricted, not case_insensitive, case_preserving.
            for word in [LINKS_MAX, NAME_BYTES_MAX, 1, 1, 0, 1] {
                put_u32(out, word);
            }
        }
        Err(fault) => {
            put_fault(out, fault);
            put_some(out, None);
        }
    }
    Ok(())
}

/// Keeps the place of attributes that are there, as nearly always.
fn keep_room(out: &mut Vec<u8>) -> usize {
    let at = out.len();
    out.extend_from_slice(&[0; ATTRIBUTES_BYTES]);
    at
}

fn fill_room(out: &mut Vec<u8>, at: usize, attributes: Option<&Attributes>) {
    let mut written = Vec::with_capacity(ATTRIBUTES_BYTES);
    put_some(&mut written, attributes);
    if written.len() == ATTRIBUTES_BYTES {
        out[at..at + ATTRIBUTES_BYTES].copy_from_slice(&written);
    } else {
        out.splice(at..at + ATTRIBUTES_BYTES, written);
    }
}
