//! How results of NFSv3 are written: attributes, what a change did to them, handles.

use super::status;
use crate::wire::xdr::{put, put_opaque, put_u32, put_u64};
use nfsserve::nfs::nfsstat3;
use workspace_core::export::{Attributes, Entry, Fault, Kind, Time, Weak};

/// Bytes of `fattr3`.
const FATTR_BYTES: usize = 84;
/// Bytes of attributes that may be there and are.
pub(super) const ATTRIBUTES_BYTES: usize = 4 + FATTR_BYTES;

pub(super) fn put_ok(out: &mut Vec<u8>) {
    put(out, &nfsstat3::NFS3_OK);
}

pub(super) fn put_fault(out: &mut Vec<u8>, fault: Fault) {
    put(out, &status::of(fault));
}

/// All of them at once: a list of a directory has ten thousands.
pub(super) fn put_attributes(out: &mut Vec<u8>, a: &Attributes) {
    let kind: u32 = match a.kind {
        Kind::File => 1,
        Kind::Directory => 2,
        Kind::BlockDevice => 3,
        Kind::CharacterDevice => 4,
        Kind::Symlink => 5,
        Kind::Socket => 6,
        Kind::Fifo => 7,
    };
    let pair = |high: u32, low: u32| u64::from(high) << 32 | u64::from(low);
    let instant = |at: Time| pair(seconds(at), at.nanoseconds);
    let mut all = [0; FATTR_BYTES];
    let (words, longs) = all.split_at_mut(5 * 4);
    for (place, word) in words.chunks_exact_mut(4).zip([kind, a.mode, a.links, a.uid, a.gid]) {
        place.copy_from_slice(&word.to_be_bytes());
    }
    let rdev = pair(a.rdev.0, a.rdev.1);
    let values = [a.size, a.used, rdev, a.fsid, a.fileid, instant(a.atime), instant(a.mtime), instant(a.ctime)];
    for (place, long) in longs.chunks_exact_mut(8).zip(values) {
        place.copy_from_slice(&long.to_be_bytes());
    }
    out.extend_from_slice(&all);
}

/// Attributes that may be missing.
pub(super) fn put_some(out: &mut Vec<u8>, attributes: Option<&Attributes>) {
    put_u32(out, u32::from(attributes.is_some()));
    if let Some(attributes) = attributes {
        put_attributes(out, attributes);
    }
}

pub(super) fn put_weak(out: &mut Vec<u8>, weak: &Weak) {
    put_u32(out, u32::from(weak.before.is_some()));
    if let Some((size, mtime, ctime)) = weak.before {
        put_u64(out, size);
        [mtime, ctime].into_iter().for_each(|at| put_time(out, at));
    }
    put_some(out, weak.after.as_ref());
}

/// A handle that is there, and attributes: what the makers of things answer.
pub(super) fn put_made(out: &mut Vec<u8>, made: &Entry) {
    put_u32(out, 1);
    put_opaque(out, made.handle.as_bytes());
    put_some(out, Some(&made.attributes));
}

fn put_time(out: &mut Vec<u8>, time: Time) {
    put_u32(out, seconds(time));
    put_u32(out, time.nanoseconds);
}

/// The protocol's seconds end in 2106, and begin in 1970.
fn seconds(time: Time) -> u32 {
    time.seconds.clamp(0, i64::from(u32::MAX)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::xdr::Reader;
    use nfsserve::nfs::{fattr3, ftype3, nfstime3, post_op_attr, pre_op_attr, specdata3, wcc_attr, wcc_data};

    /// As the crate writes it, whose types are the protocol's.
    #[test]
    fn attributes_are_those_of_the_protocol() {
        let kinds = [
            (Kind::File, ftype3::NF3REG),
            (Kind::Directory, ftype3::NF3DIR),
            (Kind::BlockDevice, ftype3::NF3BLK),
            (Kind::CharacterDevice, ftype3::NF3CHR),
            (Kind::Symlink, ftype3::NF3LNK),
            (Kind::Socket, ftype3::NF3SOCK),
            (Kind::Fifo, ftype3::NF3FIFO),
        ];
        let at = |seconds, nanoseconds| Time { seconds, nanoseconds };
        for (kind, ftype) in kinds {
            let (atime, mtime, ctime) = (at(-1, 2), at(3, 999_999_999), at(i64::from(u32::MAX) + 1, 4));
            let ours = Attributes {
                kind,
                mode: 0o1755,
                links: 2,
                uid: 1000,
                gid: 65_534,
                size: u64::MAX - 1,
                used: 1 << 40,
                rdev: (8, 1),
                fsid: 0x0102_0304_0506_0708,
                fileid: 77,
                atime,
                mtime,
                ctime,
            };
            let nfstime = |seconds, nseconds| nfstime3 { seconds, nseconds };
            let theirs = fattr3 {
                ftype,
                mode: 0o1755,
                nlink: 2,
                uid: 1000,
                gid: 65_534,
                size: u64::MAX - 1,
                used: 1 << 40,
                rdev: specdata3 { specdata1: 8, specdata2: 1 },
                fsid: 0x0102_0304_0506_0708,
                fileid: 77,
                atime: nfstime(0, 2),
                mtime: nfstime(3, 999_999_999),
                ctime: nfstime(u32::MAX, 4),
            };
            let before = pre_op_attr::attributes(wcc_attr { size: 5, mtime: theirs.mtime, ctime: theirs.ctime });
            let (mut written, mut wanted) = (Vec::new(), Vec::new());
            put_weak(&mut written, &Weak { before: Some((5, mtime, ctime)), after: Some(ours) });
            put(&mut wanted, &wcc_data { before, after: post_op_attr::attributes(theirs) });
            assert_eq!(written, wanted);
            assert_eq!(Reader::new(&wanted[28..]).fixed(ATTRIBUTES_BYTES).map(<[u8]>::len), Ok(wanted.len() - 28));
        }
        let mut nothing = Vec::new();
        put_weak(&mut nothing, &Weak::default());
        assert_eq!(nothing, [0; 8]);
    }
}
