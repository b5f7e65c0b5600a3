//! F19 and F22: records and calls of a client that lies, and NFS as a way around keys.

use crate::case;
use crate::kit::nfs_client::{MOUNT, NFS, procedure::*};
use crate::kit::{Nfs, Xdr};
use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::time::Duration;

/// accept_stat, RFC 5531 section 9.
const PROG_UNAVAIL: u32 = 1;
const PROG_MISMATCH: u32 = 2;
const PROC_UNAVAIL: u32 = 3;
const GARBAGE_ARGS: u32 = 4;
/// What the whole attack may cost for good.
const GROWN_KIB_MAX: u64 = 16 << 10;

fn rss_kib(case: &case::Case) -> u64 {
    case.server.server_process().and_then(|server| server.status("VmRSS")).expect("VmRSS")
}

#[test]
fn f19_no_record_and_no_call_is_taken_at_its_word() {
    case::each_with_nfs(
        |builder| builder,
        |case| {
            let address = case.server.nfs_address();
            let answers = |nfs: &mut Nfs| assert_eq!(nfs.call(NULL, &Xdr::new()).how, 0);
            answers(&mut Nfs::connect(address));
            let before = rss_kib(case);
            // Lengths that nothing follows, and records that never end: closed, or waited for, with nothing taken.
            for record in [
                &0x7fff_ffff_u32.to_be_bytes()[..],
                &0xffff_ffff_u32.to_be_bytes()[..],
                &[0; 4 << 20][..],
                &[&1_u32.to_be_bytes()[..], b"x"].concat().repeat(100_000)[..],
            ] {
                let mut nfs = Nfs::connect(address);
                let _ = nfs.stream.write_all(record);
                assert!(nfs.is_ended(), "{} bytes", record.len());
            }
            let mut nfs = Nfs::connect(address);
            let lies = |length: u32| Xdr::new().u32(length).raw(&[7; 8]);
            for length in [u32::MAX, 1 << 31, 65, 9] {
                assert_eq!(nfs.call(GETATTR, &lies(length)).how, GARBAGE_ARGS, "{length}");
                assert_eq!(nfs.call_of(MOUNT, 3, 1, &lies(length)).how, GARBAGE_ARGS, "{length}");
            }
            let root = nfs.mount(&case.id).expect("mount");
            for procedure in [LOOKUP, CREATE, MKDIR, SYMLINK, MKNOD, REMOVE, RMDIR, RENAME, WRITE, SETATTR, READDIRPLUS]
            {
                for tail in [&[][..], &[0xff; 4], &[0xff; 7]] {
                    let how = nfs.call(procedure, &Xdr::new().handle(&root).raw(tail)).how;
                    assert_eq!(how, GARBAGE_ARGS, "procedure {procedure}, {tail:?}");
                }
            }
            assert_eq!(nfs.call_of(100_000, 2, 0, &Xdr::new()).how, PROG_UNAVAIL);
            assert_eq!(nfs.call_of(NFS, 4, 0, &Xdr::new()).how, PROG_MISMATCH);
            assert_eq!(nfs.call_of(MOUNT, 9, 0, &Xdr::new()).how, PROG_MISMATCH);
            assert_eq!(nfs.call(22, &Xdr::new()).how, PROC_UNAVAIL);
            assert_eq!(nfs.call(u32::MAX, &Xdr::new()).how, PROC_UNAVAIL);
            // Byte by byte is slow, not wrong.
            let call = nfs.bytes_of(77, NFS, 3, NULL, &Xdr::new());
            let record = [&(0x8000_0000 | call.len() as u32).to_be_bytes()[..], &call].concat();
            for byte in &record {
                nfs.stream.write_all(&[*byte]).expect("a byte");
            }
            assert_eq!(nfs.receive().expect("a reply").0, 77);
            // Seventeen groups, a credential of 4 GiB, a reply instead of a call: refused, or the end.
            nfs.who.groups = vec![1; 17];
            let crowd = nfs.bytes_of(78, NFS, 3, GETATTR, &Xdr::new().handle(&root));
            nfs.who.groups.clear();
            let huge = [&call[..28], &u32::MAX.to_be_bytes(), &call[32..]].concat();
            let reply = [&call[..4], &1_u32.to_be_bytes(), &call[8..]].concat();
            for bad in [crowd, huge, reply, Vec::new(), vec![0; 3], call[..20].to_vec()] {
                let mut nfs = Nfs::connect(address);
                nfs.send(&bad).expect("send");
                nfs.stream.set_read_timeout(Some(Duration::from_secs(2))).expect("time-out");
                match nfs.receive() {
                    Ok((_, reply)) => assert!(reply.denied == 1 || reply.how == GARBAGE_ARGS, "{reply:?}"),
                    Err(error) => assert!(
                        matches!(
                            error.kind(),
                            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::WouldBlock
                        ),
                        "{error}"
                    ),
                }
            }
            // Calls without end whose replies nobody takes: held back, and nobody else.
            let greedy: Vec<Nfs> = (0..4)
                .map(|_| {
                    let mut nfs = Nfs::connect(address);
                    nfs.stream.set_write_timeout(Some(Duration::from_millis(500))).expect("time-out");
                    for _ in 0..10_000 {
                        let list = Xdr::new().handle(&root).u64(0).u64(0).u32(1 << 16).u32(1 << 20);
                        let xid = nfs.next_xid();
                        let call = nfs.bytes_of(xid, NFS, 3, READDIRPLUS, &list);
                        if nfs.send(&call).is_err() {
                            break;
                        }
                    }
                    nfs
                })
                .collect();
            answers(&mut Nfs::connect(address));
            drop(greedy);
            answers(&mut Nfs::connect(address));
            let after = rss_kib(case);
            assert!(after < before + GROWN_KIB_MAX, "{before} KiB grew to {after}");
        },
    );
}

#[test]
fn f22_nfs_tells_nothing_and_serves_nobody_else() {
    case::each_with_nfs(
        |builder| builder,
        |case| {
            let address = case.server.nfs_address();
            let mut nfs = Nfs::connect(address);
            nfs.mount(&case.id).expect("mount");
            // EXPORT and DUMP: an empty list each.
            for procedure in [5, 2] {
                let reply = nfs.call_of(MOUNT, 3, procedure, &Xdr::new());
                assert_eq!((reply.how, &reply.body[..]), (0, &[0; 4][..]));
            }
            let guess = |change: &dyn Fn(&mut Vec<u8>)| {
                let mut id = case.id.clone().into_bytes();
                change(&mut id);
                String::from_utf8(id).expect("text")
            };
            for wrong in [
                guess(&|id| id[31] = if id[31] == b'a' { b'b' } else { b'a' }),
                guess(&|id| id.truncate(31)),
                guess(&|id| id.make_ascii_uppercase()),
                format!("{}/", case.id),
                format!("{}/..", case.id),
                format!("../{}", case.id),
                String::new(),
                "*".to_owned(),
            ] {
                assert!(nfs.mount(&wrong).is_err(), "{wrong:?}");
            }
            // From inside there is no way to it.
            let port = address.port();
            let script = format!(
                "import socket\nfor a in ('127.0.0.1', '10.0.2.15', '169.254.1.1'):\n  s = socket.socket()\n  s.settimeout(2)\n  \
                 try:\n    s.connect((a, {port}))\n    print(a, 'CONNECTED')\n  except OSError as e:\n    print(a, 'refused')"
            );
            let seen = case.run("user", "python3", &["-c", &script]);
            let seen = seen["stdout"].as_str().expect("stdout");
            assert_eq!(seen.lines().count(), 3, "{seen}");
            assert!(!seen.contains("CONNECTED"), "{seen}");
            // The control: the same connect from where the server is.
            assert!(TcpStream::connect(("127.0.0.1", port)).is_ok());
        },
    );
}
