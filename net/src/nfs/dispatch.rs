//! One record in, one reply out: which program and procedure is called, and what it answers when it can't be.

use super::duplicates::{Duplicates, Seen};
use super::pages::Pages;
use super::{changing, looking, mount};
use crate::wire::rpc::{self, Accepted, Call, put_accepted, put_refused};
use crate::wire::rpc_record;
use crate::wire::xdr::Garbage;
use nfsserve::nfs;
use std::net::IpAddr;
use workspace_core::export::{Caller, Exports};

const MOUNT_PROGRAM: u32 = 100_005;
const MOUNT_VERSION: u32 = 3;

/// WRITE, READDIR, READDIRPLUS, FSSTAT and COMMIT may wait for a disk, or look at much.
const LONG: [u32; 5] = [7, 16, 17, 18, 21];

/// What all calls share.
pub(super) struct Dispatch {
    exports: Exports,
    duplicates: Duplicates,
    /// Another one after each start: a client then sends again what it has not committed.
    verifier: [u8; 8],
}

/// What a call is given by the thread that carries it out.
pub(super) struct Turn<'a> {
    /// To be told where the call may take long.
    pub(super) waits: &'a dyn Fn(),
    /// For bytes of a file that go into the reply without a copy.
    pub(super) pages: &'a mut Pages,
}

/// What becomes of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The reply is to be sent.
    Reply,
    /// Nothing is to be sent.
    Silence,
    /// The connection ends: this was no call.
    End,
}

impl Dispatch {
    pub(super) fn new(exports: Exports) -> Dispatch {
        let mut verifier = [0; 8];
        // Never fails once the machine has booted (getrandom(2)).
        let _ = rustix::rand::getrandom(&mut verifier, rustix::rand::GetRandomFlags::empty());
        Dispatch { exports, duplicates: Duplicates::default(), verifier }
    }

    /// Carries out the call in a record; its reply is a whole record, with those bytes in between that are in `pages`.
    pub(super) fn call(&self, peer: IpAddr, record: &[u8], out: &mut Vec<u8>, turn: &mut Turn<'_>) -> Outcome {
        turn.pages.clear();
        rpc_record::begin(out);
        let call = match rpc::read(record) {
            Ok(call) => call,
            Err(refused) if put_refused(out, refused) => {
                rpc_record::finish(out, 0);
                return Outcome::Reply;
            }
            Err(_) => return Outcome::End,
        };
        let ticket = if changes_once(&call) {
            match self.duplicates.look(peer, call.xid, record) {
                Seen::New(ticket) => Some(ticket),
                Seen::UnderWay => return Outcome::Silence,
                Seen::Before(reply) => {
                    out.extend_from_slice(&reply);
                    rpc_record::finish(out, 0);
                    return Outcome::Reply;
                }
            }
        } else {
            None
        };
        if LONG.contains(&call.procedure) {
            (turn.waits)();
        }
        self.reply(call, out, turn);
        if let Some(ticket) = ticket {
            self.duplicates.done(ticket, &out[4..]);
        }
        rpc_record::finish(out, turn.pages.bytes());
        Outcome::Reply
    }

    fn reply(&self, mut call: Call<'_>, out: &mut Vec<u8>, turn: &mut Turn<'_>) {
        let start = out.len();
        put_accepted(out, call.xid, Accepted::Success);
        let xid = call.xid;
        let answered = match (call.program, call.version) {
            (nfs::PROGRAM, nfs::VERSION) => self.nfs(&mut call, out, turn),
            (MOUNT_PROGRAM, MOUNT_VERSION) => self.mount(&mut call, out),
            (nfs::PROGRAM, _) => Err(Accepted::ProgramMismatch { version: nfs::VERSION }),
            (MOUNT_PROGRAM, _) => Err(Accepted::ProgramMismatch { version: MOUNT_VERSION }),
            _ => Err(Accepted::ProgramUnavailable),
        };
        if let Err(accepted) = answered {
            out.truncate(start);
            put_accepted(out, xid, accepted);
        }
    }

    fn nfs(&self, call: &mut Call<'_>, out: &mut Vec<u8>, turn: &mut Turn<'_>) -> Result<(), Accepted> {
        let (exports, verifier, arguments) = (&self.exports, self.verifier, &mut call.arguments);
        let who = std::mem::replace(&mut call.who, rpc::Who { uid: 0, gid: 0, groups: Vec::new() });
        let caller = &Caller { uid: who.uid, gid: who.gid, groups: who.groups };
        let answered = match call.procedure {
            0 => Ok(()),
            1 => looking::getattr(exports, arguments, out),
            2 => changing::setattr(exports, caller, arguments, out),
            3 => looking::lookup(exports, caller, arguments, out),
            4 => looking::access(exports, caller, arguments, out),
            5 => looking::readlink(exports, caller, arguments, out),
            6 => looking::read(exports, caller, arguments, out, turn),
            7 => changing::write(exports, caller, verifier, arguments, out),
            8 => changing::create(exports, caller, arguments, out),
            9 => changing::mkdir(exports, caller, arguments, out),
            10 => changing::symlink(exports, caller, arguments, out),
            11 => changing::mknod(exports, caller, arguments, out),
            12 => changing::remove(exports, caller, arguments, out),
            13 => changing::rmdir(exports, caller, arguments, out),
            14 => changing::rename(exports, caller, arguments, out),
            15 => changing::link(exports, caller, arguments, out),
            16 => looking::list(exports, caller, false, arguments, out),
            17 => looking::list(exports, caller, true, arguments, out),
            18 => looking::fsstat(exports, arguments, out),
            19 => looking::fsinfo(exports, arguments, out),
            20 => looking::pathconf(exports, arguments, out),
            21 => changing::commit(exports, caller, verifier, arguments, out),
            _ => return Err(Accepted::ProcedureUnavailable),
        };
        answered.map_err(|Garbage| Accepted::GarbageArguments)
    }

    fn mount(&self, call: &mut Call<'_>, out: &mut Vec<u8>) -> Result<(), Accepted> {
        match call.procedure {
            // NULL, UMNT and UMNTALL answer nothing: who has mounted is not kept.
            0 | 3 | 4 => Ok(()),
            1 => mount::mount(&self.exports, &mut call.arguments, out).map_err(|Garbage| Accepted::GarbageArguments),
            // DUMP and EXPORT: empty lists, for whoever asks.
            2 | 5 => {
                out.extend_from_slice(&[0; 4]);
                Ok(())
            }
            _ => Err(Accepted::ProcedureUnavailable),
        }
    }
}

/// Whether carrying the call out twice is not the same as once: SETATTR, and all that makes, removes or renames.
fn changes_once(call: &Call<'_>) -> bool {
    (call.program, call.version) == (nfs::PROGRAM, nfs::VERSION) && matches!(call.procedure, 2 | 8..=15)
}
