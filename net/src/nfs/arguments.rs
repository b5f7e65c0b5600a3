//! What the procedures of NFSv3 take, read from XDR: handles, names, attributes to set.

use crate::wire::xdr::{Garbage, Reader};
use nfsserve::nfs::{NFS3_FHSIZE, nfstime3, sattr3, set_atime, set_gid3, set_mode3, set_mtime, set_size3, set_uid3};
use workspace_core::export::{Changes, Fault, Handle, SetTime, Time};

/// Longer names are refused by the tree, by NFS3ERR_NAMETOOLONG; longer ones than this are no arguments.
const NAME_BYTES_MAX: usize = 4096;
/// Of a symbolic link; the tree refuses what is longer than a path may be.
const TARGET_BYTES_MAX: usize = 64 << 10;

/// A handle, or why these bytes are none.
pub(super) type AnyHandle = Result<Handle, Fault>;

pub(super) fn handle(reader: &mut Reader<'_>) -> Result<AnyHandle, Garbage> {
    Ok(Handle::from_bytes(reader.opaque(NFS3_FHSIZE as usize)?))
}

pub(super) fn name<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], Garbage> {
    reader.opaque(NAME_BYTES_MAX)
}

pub(super) fn place<'a>(reader: &mut Reader<'a>) -> Result<(AnyHandle, &'a [u8]), Garbage> {
    Ok((handle(reader)?, name(reader)?))
}

pub(super) fn target<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], Garbage> {
    reader.opaque(TARGET_BYTES_MAX)
}

pub(super) fn changes(reader: &mut Reader<'_>) -> Result<Changes, Garbage> {
    let set: sattr3 = reader.value()?;
    Ok(Changes {
        mode: match set.mode {
            set_mode3::mode(mode) => Some(mode),
            set_mode3::Void => None,
        },
        uid: match set.uid {
            set_uid3::uid(uid) => Some(uid),
            set_uid3::Void => None,
        },
        gid: match set.gid {
            set_gid3::gid(gid) => Some(gid),
            set_gid3::Void => None,
        },
        size: match set.size {
            set_size3::size(size) => Some(size),
            set_size3::Void => None,
        },
        atime: match set.atime {
            set_atime::DONT_CHANGE => None,
            set_atime::SET_TO_SERVER_TIME => Some(SetTime::Now),
            set_atime::SET_TO_CLIENT_TIME(time) => Some(SetTime::At(instant(time))),
        },
        mtime: match set.mtime {
            set_mtime::DONT_CHANGE => None,
            set_mtime::SET_TO_SERVER_TIME => Some(SetTime::Now),
            set_mtime::SET_TO_CLIENT_TIME(time) => Some(SetTime::At(instant(time))),
        },
    })
}

/// The guard of SETATTR: the ctime that the client knows.
pub(super) fn guard(reader: &mut Reader<'_>) -> Result<Option<Time>, Garbage> {
    Ok(if reader.bool()? { Some(instant(reader.value()?)) } else { None })
}

fn instant(time: nfstime3) -> Time {
    Time { seconds: i64::from(time.seconds), nanoseconds: time.nseconds }
}
