//! What a failure of the tree is in NFSv3 (RFC 1813 section 2.6) and in MOUNT3: the one table.

use nfsserve::nfs::nfsstat3;
use rustix::io::Errno;
use workspace_core::export::Fault;

/// The status of a reply.
pub(super) fn of(fault: Fault) -> nfsstat3 {
    match fault {
        Fault::Os(errno) => of_errno(errno),
        Fault::Stale => nfsstat3::NFS3ERR_STALE,
        Fault::BadHandle => nfsstat3::NFS3ERR_BADHANDLE,
        Fault::NotSync => nfsstat3::NFS3ERR_NOT_SYNC,
        Fault::BadCookie => nfsstat3::NFS3ERR_BAD_COOKIE,
        Fault::NotSupported => nfsstat3::NFS3ERR_NOTSUPP,
    }
}

fn of_errno(errno: Errno) -> nfsstat3 {
    match errno {
        Errno::PERM => nfsstat3::NFS3ERR_PERM,
        Errno::NOENT => nfsstat3::NFS3ERR_NOENT,
        Errno::NXIO => nfsstat3::NFS3ERR_NXIO,
        Errno::ACCESS => nfsstat3::NFS3ERR_ACCES,
        Errno::EXIST => nfsstat3::NFS3ERR_EXIST,
        Errno::XDEV => nfsstat3::NFS3ERR_XDEV,
        Errno::NODEV => nfsstat3::NFS3ERR_NODEV,
        Errno::NOTDIR => nfsstat3::NFS3ERR_NOTDIR,
        Errno::ISDIR => nfsstat3::NFS3ERR_ISDIR,
        Errno::INVAL | Errno::LOOP => nfsstat3::NFS3ERR_INVAL,
        Errno::FBIG | Errno::OVERFLOW => nfsstat3::NFS3ERR_FBIG,
        Errno::NOSPC => nfsstat3::NFS3ERR_NOSPC,
        Errno::ROFS => nfsstat3::NFS3ERR_ROFS,
        Errno::MLINK => nfsstat3::NFS3ERR_MLINK,
        Errno::NAMETOOLONG => nfsstat3::NFS3ERR_NAMETOOLONG,
        Errno::NOTEMPTY => nfsstat3::NFS3ERR_NOTEMPTY,
        Errno::DQUOT => nfsstat3::NFS3ERR_DQUOT,
        Errno::STALE => nfsstat3::NFS3ERR_STALE,
        Errno::OPNOTSUPP | Errno::NOSYS => nfsstat3::NFS3ERR_NOTSUPP,
        // The client asks again after a while.
        Errno::NOMEM | Errno::MFILE | Errno::NFILE | Errno::AGAIN | Errno::BUSY => nfsstat3::NFS3ERR_JUKEBOX,
        _ => nfsstat3::NFS3ERR_IO,
    }
}

/// The status of a MOUNT (RFC 1813 section 5.1.5): fewer, with the same numbers.
pub(super) fn of_mount(fault: Fault) -> u32 {
    match of(fault) {
        nfsstat3::NFS3ERR_STALE | nfsstat3::NFS3ERR_BADHANDLE | nfsstat3::NFS3ERR_NOENT => 2,
        nfsstat3::NFS3ERR_ACCES => 13,
        nfsstat3::NFS3ERR_NOTDIR => 20,
        nfsstat3::NFS3ERR_IO => 5,
        _ => 10_006,
    }
}
