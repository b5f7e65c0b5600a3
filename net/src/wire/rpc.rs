//! Calls and replies of RPC version 2 (RFC 5531), with the two kinds of credentials that NFS clients without
//! Kerberos send: none, and AUTH_SYS.

use super::xdr::{Garbage, Reader, put_u32};

/// Bytes of a credential or verifier (RFC 5531 section 8.2).
const AUTH_BYTES_MAX: usize = 400;
const MACHINE_BYTES_MAX: usize = 255;
const GROUPS_MAX: u32 = 16;
/// Who a caller without a credential is.
const NOBODY: u32 = 65_534;

/// Who calls, as the client says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Other groups, at most 16.
    pub groups: Vec<u32>,
}

/// A call whose head is right.
#[derive(Debug, Clone)]
pub struct Call<'a> {
    /// Names the call; the reply carries it.
    pub xid: u32,
    /// Program.
    pub program: u32,
    /// Its version.
    pub version: u32,
    /// Its procedure.
    pub procedure: u32,
    /// Who calls.
    pub who: Who,
    /// The arguments.
    pub arguments: Reader<'a>,
}

/// Why there is no call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It is not a call at all: the connection ends.
    NoCall,
    /// Another version of RPC than 2.
    RpcMismatch(u32),
    /// A credential that is broken.
    BadCredential(u32),
    /// A kind of credential that is not known here.
    UnknownCredential(u32),
}

/// Reads a call's head.
pub fn read(record: &[u8]) -> Result<Call<'_>, Refused> {
    let mut reader = Reader::new(record);
    let mut word = || reader.u32().map_err(|_| Refused::NoCall);
    let (xid, kind) = (word()?, word()?);
    if kind != 0 {
        return Err(Refused::NoCall);
    }
    if word()? != 2 {
        return Err(Refused::RpcMismatch(xid));
    }
    let (program, version, procedure, flavour) = (word()?, word()?, word()?, word()?);
    let bad = |_: Garbage| Refused::BadCredential(xid);
    let body = reader.opaque(AUTH_BYTES_MAX).map_err(bad)?;
    let who = match flavour {
        0 => Who { uid: NOBODY, gid: NOBODY, groups: Vec::new() },
        1 => auth_sys(body).map_err(bad)?,
        _ => return Err(Refused::UnknownCredential(xid)),
    };
    reader.u32().map_err(bad)?;
    reader.opaque(AUTH_BYTES_MAX).map_err(bad)?;
    Ok(Call { xid, program, version, procedure, who, arguments: reader })
}

fn auth_sys(body: &[u8]) -> Result<Who, Garbage> {
    let mut reader = Reader::new(body);
    reader.u32()?; // a stamp without a meaning
    reader.opaque(MACHINE_BYTES_MAX)?;
    let (uid, gid, count) = (reader.u32()?, reader.u32()?, reader.u32()?);
    if count > GROUPS_MAX {
        return Err(Garbage);
    }
    let groups = (0..count).map(|_| reader.u32()).collect::<Result<_, _>>()?;
    Ok(Who { uid, gid, groups })
}

/// How a call was taken (RFC 5531 section 9, accept_stat).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// The results follow.
    Success,
    /// The program is not here.
    ProgramUnavailable,
    /// It is here in this version only.
    ProgramMismatch {
        /// The version.
        version: u32,
    },
    /// The program has no such procedure.
    ProcedureUnavailable,
    /// The arguments can't be read.
    GarbageArguments,
    /// Something failed here.
    SystemError,
}

/// Adds the head of a reply.
pub fn put_accepted(out: &mut Vec<u8>, xid: u32, accepted: Accepted) {
    let status = match accepted {
        Accepted::Success => 0,
        Accepted::ProgramUnavailable => 1,
        Accepted::ProgramMismatch { .. } => 2,
        Accepted::ProcedureUnavailable => 3,
        Accepted::GarbageArguments => 4,
        Accepted::SystemError => 5,
    };
    // xid, REPLY, MSG_ACCEPTED, a verifier of the kind AUTH_NONE with no bytes, status.
    for word in [xid, 1, 0, 0, 0, status] {
        put_u32(out, word);
    }
    if let Accepted::ProgramMismatch { version } = accepted {
        put_u32(out, version);
        put_u32(out, version);
    }
}

/// Adds the whole reply to what is no call of ours; false where there is nothing to say.
pub fn put_refused(out: &mut Vec<u8>, refused: Refused) -> bool {
    // xid, REPLY, MSG_DENIED, then RPC_MISMATCH with the versions, or AUTH_ERROR with AUTH_BADCRED or AUTH_TOOWEAK.
    let words: &[u32] = match refused {
        Refused::NoCall => return false,
        Refused::RpcMismatch(xid) => &[xid, 1, 1, 0, 2, 2],
        Refused::BadCredential(xid) => &[xid, 1, 1, 1, 1],
        Refused::UnknownCredential(xid) => &[xid, 1, 1, 1, 5],
    };
    words.iter().for_each(|word| put_u32(out, *word));
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    #[test]
    fn a_call_is_read_and_a_bad_one_is_named() {
        let call = words(&[7, 0, 2, 100_003, 3, 1, 1, 28, 9, 1, 0x6100_0000, 1000, 1001, 2, 5, 6, 0, 0, 42]);
        // The credential: stamp, name of one byte, uid, gid, two groups; 32 bytes.
        let call = [&call[..28], &32u32.to_be_bytes(), &call[32..]].concat();
        let read_call = read(&call).unwrap();
        assert_eq!(read_call.who, Who { uid: 1000, gid: 1001, groups: vec![5, 6] });
        assert_eq!((read_call.xid, read_call.procedure, read_call.arguments.clone().u32()), (7, 1, Ok(42)));
        assert_eq!(read(&words(&[7, 1, 2])).unwrap_err(), Refused::NoCall);
        assert_eq!(read(&words(&[7, 0, 3])).unwrap_err(), Refused::RpcMismatch(7));
        assert_eq!(read(&words(&[7, 0, 2, 1, 1, 1, 0, u32::MAX])).unwrap_err(), Refused::BadCredential(7));
        assert_eq!(read(&words(&[7, 0, 2, 1, 1, 1, 6, 0, 0, 0])).unwrap_err(), Refused::UnknownCredential(7));
        let mut groups = vec![7, 0, 2, 100_003, 3, 1, 1, 20 + 17 * 4, 9, 0, 1, 1, 17];
        groups.extend([5; 17]);
        groups.extend([0, 0]);
        assert_eq!(read(&words(&groups)).unwrap_err(), Refused::BadCredential(7));
    }

    fn any_bytes(input: &[u8]) {
        match read(input) {
            Ok(call) => assert!(call.who.groups.len() <= 16 && call.arguments.left() + 40 <= input.len()),
            Err(refused) => assert_eq!(put_refused(&mut Vec::new(), refused), refused != Refused::NoCall),
        }
    }

    #[test]
    fn any_bytes_are_a_call_or_refused() {
        let null = words(&[7, 0, 2, 100_003, 3, 0, 0, 0, 0, 0]);
        let sys = words(&[7, 0, 2, 100_003, 3, 1, 1, 24, 9, 0, 0, 0, 1, 5, 0, 0, 4, 0]);
        crate::fuzz::run(any_bytes, &[&null, &sys]);
    }
}
