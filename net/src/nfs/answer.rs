//! How results of NFSv3 are written: attributes, what a change did to them, handles.

use super::status;
use crate::wire::xdr::{put, put_opaque, put_u32};
use nfsserve::nfs::{fattr3, ftype3, nfsstat3, nfstime3, post_op_attr, pre_op_attr, specdata3, wcc_attr, wcc_data};
use workspace_core::export::{Attributes, Entry, Fault, Kind, Time, Weak};

/// Bytes of attributes that may be there and are.
pub(super) const ATTRIBUTES_BYTES: usize = 88;

pub(super) fn put_ok(out: &mut Vec<u8>) {
    put(out, &nfsstat3::NFS3_OK);
}

pub(super) fn put_fault(out: &mut Vec<u8>, fault: Fault) {
    put(out, &status::of(fault));
}

pub(super) fn put_attributes(out: &mut Vec<u8>, attributes: &Attributes) {
    put(out, &fattr(attributes));
}

/// Attributes that may be missing.
pub(super) fn put_some(out: &mut Vec<u8>, attributes: Option<&Attributes>) {
    put(out, &post(attributes));
}

pub(super) fn put_weak(out: &mut Vec<u8>, weak: &Weak) {
    let before = match weak.before {
        Some((size, mtime, ctime)) => {
            pre_op_attr::attributes(wcc_attr { size, mtime: time(mtime), ctime: time(ctime) })
        }
        None => pre_op_attr::Void,
    };
    put(out, &wcc_data { before, after: post(weak.after.as_ref()) });
}

/// A handle that is there, and attributes: what the makers of things answer.
pub(super) fn put_made(out: &mut Vec<u8>, made: &Entry) {
    put_u32(out, 1);
    put_opaque(out, made.handle.as_bytes());
    put_some(out, Some(&made.attributes));
}

pub(super) fn post(attributes: Option<&Attributes>) -> post_op_attr {
    attributes.map_or(post_op_attr::Void, |attributes| post_op_attr::attributes(fattr(attributes)))
}

fn fattr(a: &Attributes) -> fattr3 {
    fattr3 {
        ftype: match a.kind {
            Kind::File => ftype3::NF3REG,
            Kind::Directory => ftype3::NF3DIR,
            Kind::Symlink => ftype3::NF3LNK,
            Kind::BlockDevice => ftype3::NF3BLK,
            Kind::CharacterDevice => ftype3::NF3CHR,
            Kind::Socket => ftype3::NF3SOCK,
            Kind::Fifo => ftype3::NF3FIFO,
        },
        mode: a.mode,
        nlink: a.links,
        uid: a.uid,
        gid: a.gid,
        size: a.size,
        used: a.used,
        rdev: specdata3 { specdata1: a.rdev.0, specdata2: a.rdev.1 },
        fsid: a.fsid,
        fileid: a.fileid,
        atime: time(a.atime),
        mtime: time(a.mtime),
        ctime: time(a.ctime),
    }
}

/// The protocol's seconds end in 2106, and begin in 1970.
fn time(time: Time) -> nfstime3 {
    let seconds = time.seconds.clamp(0, i64::from(u32::MAX)) as u32;
    nfstime3 { seconds, nseconds: time.nanoseconds }
}
