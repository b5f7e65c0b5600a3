//! The procedures of NFSv3 that change something. Each answers what it did and how attributes were before and after.

use super::answer::{put_fault, put_made, put_ok, put_some, put_weak};
use super::arguments::{changes, guard, handle, place, target};
use super::looking::TRANSFER_BYTES_MAX;
use crate::wire::xdr::{Garbage, Reader, put, put_u32};
use nfsserve::nfs::nfsstat3;
use workspace_core::export::{Caller, Changed, Create, Entry, Exports, Fault, Special, Stable, Weak};

fn nothing<T>(fault: Fault) -> Changed<T> {
    Changed { result: Err(fault), weak: Weak::default() }
}

/// The status, what was made where something was, and the directory's attributes.
fn put_entry(out: &mut Vec<u8>, made: &Changed<Entry>) {
    match &made.result {
        Ok(entry) => {
            put_ok(out);
            put_made(out, entry);
        }
        Err(fault) => put_fault(out, *fault),
    }
    put_weak(out, &made.weak);
}

fn put_done(out: &mut Vec<u8>, done: &Changed<()>) {
    match done.result {
        Ok(()) => put_ok(out),
        Err(fault) => put_fault(out, fault),
    }
    put_weak(out, &done.weak);
}

pub(super) fn setattr(
    exports: &Exports,
    caller: &Caller,
    arguments: &mut Reader<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Garbage> {
    let (handle, changes, guard) = (handle(arguments)?, changes(arguments)?, guard(arguments)?);
    let done = handle.map_or_else(nothing, |handle| exports.change(caller, &handle, &changes, guard));
    put_done(out, &done);
    Ok(())
}

pub(super) fn write(
    exports: &Exports,
    caller: &Caller,
    verifier: [u8; 8],
    arguments: &mut Reader<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Garbage> {
    let (handle, offset, count) = (handle(arguments)?, arguments.u64()?, arguments.u32()?);
    let stable = match arguments.u32()? {
        0 => Stable::Unstable,
        1 => Stable::Data,
        2 => Stable::File,
        _ => return Err(Garbage),
    };
    let bytes = arguments.opaque(TRANSFER_BYTES_MAX as usize)?;
    if bytes.len() != count as usize {
        put(out, &nfsstat3::NFS3ERR_INVAL);
        put_weak(out, &Weak::default());
        return Ok(());
    }
    let written = handle.map_or_else(nothing, |handle| exports.write(caller, &handle, offset, bytes, stable));
    match written.result {
        Ok(stable) => {
            put_ok(out);
            put_weak(out, &written.weak);
            put_u32(out, count);
            let committed = match stable {
                Stable::Unstable => 0,
                Stable::Data => 1,
                Stable::File => 2,
            };
            put_u32(out, committed);
            out.extend_from_slice(&verifier);
        }
        Err(fault) => {
            put_fault(out, fault);
            put_weak(out, &written.weak);
        }
    }
    Ok(())
}

pub(super) fn commit(
    exports: &Exports,
    caller: &Caller,
    verifier: [u8; 8],
    arguments: &mut Reader<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Garbage> {
    let (handle, offset, count) = (handle(arguments)?, arguments.u64()?, arguments.u32()?);
    let done = handle.map_or_else(nothing, |handle| exports.commit(caller, &handle, offset, count));
    put_done(out, &done);
    if done.result.is_ok() {
        out.extend_from_slice(&verifier);
    }
    Ok(())
}

pub(super) fn create(
    exports: &Exports,
    caller: &Caller,
    arguments: &mut Reader<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Garbage> {
    let (directory, name) = place(arguments)?;
    let how = match arguments.u32()? {
        0 => Create::Unchecked(changes(arguments)?),
        1 => Create::Guarded(changes(arguments)?),
        2 => Create::Exclusive(arguments.eight()?),
        _ => return Err(Garbage),
    };
    put_entry(out, &directory.map_or_else(nothing, |directory| exports.create(caller, &directory, name, &how)));
    Ok(())
}

pub(super) fn mkdir(
    exports: &Exports,
    caller: &Caller,
    arguments: &mut Reader<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Garbage> {
    let ((directory, name), changes) = (place(arguments)?, changes(arguments)?);
    let made = directory.map_or_else(nothing, |directory| exports.make_directory(caller, &directory, name, &changes));
    put_entry(out, &made);
    Ok(())
}

pub(super) fn symlink(
    exports: &Exports,
    caller: &Caller,
    arguments: &mut Reader<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Garbage> {
    let ((directory, name), changes) = (place(arguments)?, changes(arguments)?);
    let target = target(arguments)?;
    let made = directory.map_or_else(nothing, |directory| exports.symlink(caller, &directory, name, target, &changes));
    put_entry(out, &made);
    Ok(())
}

pub(super) fn mknod(
    exports: &Exports,
    caller: &Caller,
    arguments: &mut Reader<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Garbage> {
    let (directory, name) = place(arguments)?;
    let (special, changes) = match arguments.u32()? {
        kind @ (3 | 4) => {
            let changes = changes(arguments)?;
            let (major, minor) = (arguments.u32()?, arguments.u32()?);
            let device = if kind == 3 { Special::BlockDevice } else { Special::CharacterDevice };
            (device(major, minor), changes)
        }
        6 => (Special::Socket, changes(arguments)?),
        7 => (Special::Fifo, changes(arguments)?),
        // A file, a directory or a link is made by other procedures.
        1 | 2 | 5 => {
            put(out, &nfsstat3::NFS3ERR_BADTYPE);
            put_weak(out, &Weak::default());
            return Ok(());
        }
        _ => return Err(Garbage),
    };
    let made =
        directory.map_or_else(nothing, |directory| exports.make_node(caller, &directory, name, special, &changes));
    put_entry(out, &made);
    Ok(())
}

pub(super) fn remove(
    exports: &Exports,
    caller: &Caller,
    arguments: &mut Reader<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Garbage> {
    let (directory, name) = place(arguments)?;
    put_done(out, &directory.map_or_else(nothing, |directory| exports.remove(caller, &directory, name)));
    Ok(())
}

pub(super) fn rmdir(
    exports: &Exports,
    caller: &Caller,
    arguments: &mut Reader<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Garbage> {
    let (directory, name) = place(arguments)?;
    put_done(out, &directory.map_or_else(nothing, |directory| exports.remove_directory(caller, &directory, name)));
    Ok(())
}

pub(super) fn rename(
    exports: &Exports,
    caller: &Caller,
    arguments: &mut Reader<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Garbage> {
    let ((from, name), (to, new)) = (place(arguments)?, place(arguments)?);
    let (done, from, to) = match (from, to) {
        (Ok(from), Ok(to)) => exports.rename(caller, &from, name, &to, new),
        (Err(fault), _) | (_, Err(fault)) => (Err(fault), Weak::default(), Weak::default()),
    };
    match done {
        Ok(()) => put_ok(out),
        Err(fault) => put_fault(out, fault),
    }
    put_weak(out, &from);
    put_weak(out, &to);
    Ok(())
}

pub(super) fn link(
    exports: &Exports,
    caller: &Caller,
    arguments: &mut Reader<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Garbage> {
    let (handle, (directory, name)) = (handle(arguments)?, place(arguments)?);
    let (done, attributes, weak) = match (handle, directory) {
        (Ok(handle), Ok(directory)) => exports.link(caller, &handle, &directory, name),
        (Err(fault), _) | (_, Err(fault)) => (Err(fault), None, Weak::default()),
    };
    match done {
        Ok(()) => put_ok(out),
        Err(fault) => put_fault(out, fault),
    }
    put_some(out, attributes.as_ref());
    put_weak(out, &weak);
    Ok(())
}
