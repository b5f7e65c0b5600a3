//! F17, F18, F20, F21 and F23: handles, names, numbers, ids and links of an NFS client that lies, on a raw socket.

#[path = "nfs_race.rs"]
mod race;

use crate::case::{self, Case, Starter};
use crate::kit::nfs_client::{As, procedure::*};
use crate::kit::{Nfs, Xdr};
use serde_json::json;
use std::fs;

const ATTRIBUTES_WORDS: usize = 21;

// Statuses of NFSv3, RFC 1813 section 2.6.
const ACCES: u32 = 13;
const EXIST: u32 = 17;
const XDEV: u32 = 18;
const NOTDIR: u32 = 20;
const ISDIR: u32 = 21;
const INVAL: u32 = 22;
const FBIG: u32 = 27;
const NAMETOOLONG: u32 = 63;
const NOTEMPTY: u32 = 66;
const STALE: u32 = 70;
const BADHANDLE: u32 = 10_001;
const BAD_COOKIE: u32 = 10_003;
const NOTSUPP: u32 = 10_004;
const TOOSMALL: u32 = 10_005;

fn connect(case: &Case, uid: u32) -> Nfs {
    let mut nfs = Nfs::connect(case.server.nfs_address());
    nfs.who = As { uid, gid: uid, groups: Vec::new() };
    nfs
}

fn on(handle: &[u8]) -> Xdr {
    Xdr::new().handle(handle)
}

fn plain_file() -> Xdr {
    Xdr::new().u32(0).attributes(Some(0o644), None, None, None)
}

fn create(nfs: &mut Nfs, at: &[u8], name: &[u8]) -> Vec<u8> {
    nfs.call(CREATE, &on(at).bytes(name).raw(&plain_file().0)).handle(true)
}

fn getattr(nfs: &mut Nfs, handle: &[u8]) -> u32 {
    nfs.call(GETATTR, &on(handle)).status()
}

/// Status and bytes of a read.
fn read(nfs: &mut Nfs, handle: &[u8], offset: u64, count: u32) -> (u32, Vec<u8>) {
    let reply = nfs.call(READ, &on(handle).u64(offset).u32(count));
    match reply.status() {
        0 => (0, reply.bytes(2 + ATTRIBUTES_WORDS + 2).to_vec()),
        status => (status, Vec::new()),
    }
}

fn write(nfs: &mut Nfs, handle: &[u8], offset: u64, count: u32, bytes: &[u8]) -> u32 {
    nfs.call(WRITE, &on(handle).u64(offset).u32(count).u32(0).bytes(bytes)).status()
}

#[test]
fn f17_no_handle_is_made_up_and_none_leads_out() {
    case::each_with_nfs(
        |builder| builder,
        |case| {
            let mut nfs = connect(case, 1000);
            let root = nfs.mount(&case.id).expect("mount");
            let others = nfs.mount(&case.neighbour).expect("mount");
            let file = create(&mut nfs, &root, b"f");
            assert_eq!(getattr(&mut nfs, &file), 0, "control: the handle itself");
            for bit in 0..file.len() * 8 {
                let mut forged = file.clone();
                forged[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(getattr(&mut nfs, &forged), BADHANDLE, "bit {bit}");
            }
            for length in [0, 1, file.len() - 1, file.len() + 1, 64] {
                for byte in [0, 0xff] {
                    let mut forged = file.clone();
                    forged.resize(length, byte);
                    assert_eq!(getattr(&mut nfs, &forged), BADHANDLE, "{length} bytes");
                    assert_eq!(getattr(&mut nfs, &vec![byte; length]), BADHANDLE);
                }
            }
            // Parts of two handles that are well themselves, and the inode above the export.
            for cut in 1..file.len() {
                let forged = [&file[..cut], &others[cut..]].concat();
                if forged != file && forged != others {
                    assert_eq!(getattr(&mut nfs, &forged), BADHANDLE, "cut at {cut}");
                }
            }
            let place = case.server.data_dir().join("sandboxes").join(&case.id);
            let above = std::os::unix::fs::MetadataExt::ino(&fs::metadata(&place).expect("stat")).to_be_bytes();
            let mut forged = root.clone();
            forged[21..29].copy_from_slice(&above);
            assert_eq!(getattr(&mut nfs, &forged), BADHANDLE);
            // The number of a file that is gone, taken by others.
            case.sh("user", "cd /workspace; rm f; for i in $(seq 64); do echo new >f$i; done");
            assert_eq!(getattr(&mut nfs, &file), STALE);
            // Moved out of the export by the other door. Whoever keeps a descriptor open can still read it.
            case.sh("user", "mkdir /workspace/d; echo secret >/workspace/d/g");
            let directory = nfs.lookup(&root, b"d").expect("d");
            let inner = nfs.lookup(&directory, b"g").expect("g");
            assert_eq!(read(&mut nfs, &inner, 0, 100).1, b"secret\n");
            let held = fs::File::open(place.join("workspace/d/g")).expect("open");
            let moved = |from: &str, to: &str| {
                let body = json!({"source": from, "destination": to});
                case.api("POST", &format!("/{}/files/move", case.id), Some(&body)).expect(200);
            };
            moved("/workspace/d", "/home/user/d");
            assert_eq!(std::io::read_to_string(&held).expect("control"), "secret\n");
            for handle in [&directory, &inner] {
                assert_eq!(getattr(&mut nfs, handle), STALE);
            }
            assert_eq!(read(&mut nfs, &inner, 0, 100).0, STALE);
            assert_eq!(nfs.lookup(&directory, b".."), Err(STALE));
            assert_eq!(nfs.lookup(&directory, b"g"), Err(STALE));
            moved("/home/user/d", "/workspace/back");
            assert_eq!(read(&mut nfs, &inner, 0, 100).1, b"secret\n", "control: back again");
            // A sandbox that is deleted takes its handles along.
            let other = case.create(json!({}));
            let root = nfs.mount(&other).expect("mount");
            let file = create(&mut nfs, &root, b"f");
            case.api("DELETE", &format!("/{other}?force=true"), None).expect(200);
            for handle in [&root, &file] {
                assert_eq!(getattr(&mut nfs, handle), STALE);
            }
            assert!(nfs.mount(&other).is_err());
        },
    );
}

#[test]
fn f18_a_name_is_one_component_of_its_directory() {
    case::each_with_nfs(
        |builder| builder,
        |case| {
            let mut nfs = connect(case, 1000);
            let root = nfs.mount(&case.id).expect("mount");
            let others = nfs.mount(&case.neighbour).expect("mount");
            assert_eq!(nfs.lookup(&root, b"..").as_ref(), Ok(&root));
            assert_eq!(nfs.lookup(&root, b".").as_ref(), Ok(&root));
            let file = create(&mut nfs, &root, b"f");
            let mode = || Xdr::new().attributes(Some(0o755), None, None, None).0;
            let long = [b'a'; 256];
            let names: [(&[u8], u32); 6] = [
                (b"", INVAL),
                (b"a/b", INVAL),
                (b"/etc", INVAL),
                (b"../x", INVAL),
                (b"a\0b", INVAL),
                (&long, NAMETOOLONG),
            ];
            for (name, status) in names {
                let shown = String::from_utf8_lossy(name);
                assert_eq!(nfs.lookup(&root, name), Err(status), "{shown:?}");
                let place = on(&root).bytes(name);
                let calls = [
                    (CREATE, place.clone().raw(&plain_file().0)),
                    (MKDIR, place.clone().raw(&mode())),
                    (SYMLINK, place.clone().raw(&mode()).bytes(b"t")),
                    (MKNOD, place.clone().u32(7).raw(&mode())),
                    (REMOVE, place.clone()),
                    (RMDIR, place.clone()),
                    (RENAME, on(&root).bytes(b"f").raw(&place.0)),
                    (RENAME, place.clone().handle(&root).bytes(b"g")),
                    (LINK, on(&file).raw(&place.0)),
                ];
                for (call, arguments) in calls {
                    assert_eq!(nfs.call(call, &arguments).status(), status, "{call} {shown:?}");
                }
            }
            for (call, name, status) in
                [(RMDIR, &b"."[..], INVAL), (RMDIR, b"..", NOTEMPTY), (REMOVE, b"..", INVAL), (MKDIR, b"..", EXIST)]
            {
                let made = if call == MKDIR { mode() } else { Vec::new() };
                assert_eq!(nfs.call(call, &on(&root).bytes(name).raw(&made)).status(), status, "{call}");
            }
            // Between two exports nothing is moved or linked.
            let across = on(&root).bytes(b"f").handle(&others).bytes(b"f");
            assert_eq!(nfs.call(RENAME, &across).status(), XDEV);
            assert_eq!(nfs.call(LINK, &on(&file).handle(&others).bytes(b"f")).status(), XDEV);
            race::run(case);
        },
    );
    race::control();
}

#[test]
fn f20_no_number_wraps() {
    case::each_with_nfs(
        |builder| builder,
        |case| {
            let mut nfs = connect(case, 1000);
            let root = nfs.mount(&case.id).expect("mount");
            let file = create(&mut nfs, &root, b"f");
            assert_eq!(write(&mut nfs, &file, 0, 5, b"hello"), 0);
            for offset in [u64::MAX, u64::MAX - 1, 1 << 63, i64::MAX as u64] {
                let (status, bytes) = read(&mut nfs, &file, offset, u32::MAX);
                assert!([0, INVAL].contains(&status) && bytes.is_empty(), "{status}");
                assert_eq!(write(&mut nfs, &file, offset, 2, b"xy"), FBIG, "{offset}");
                let committed = nfs.call(COMMIT, &on(&file).u64(offset).u32(u32::MAX)).status();
                assert_eq!(committed, INVAL, "{offset}");
            }
            assert_eq!(read(&mut nfs, &file, 0, u32::MAX), (0, b"hello".to_vec()));
            assert_eq!(read(&mut nfs, &file, 3, 0), (0, Vec::new()));
            for count in [0, 1, 6, u32::MAX] {
                assert_eq!(write(&mut nfs, &file, 0, count, b"hello"), INVAL, "{count}");
            }
            for size in [1 << 63, u64::MAX] {
                let set = on(&file).attributes(None, None, None, Some(size)).u32(0);
                assert_eq!(nfs.call(SETATTR, &set).status(), FBIG);
            }
            let list = |nfs: &mut Nfs, plus: bool, cookie: u64, verifier: &[u8], count: u32| {
                let arguments = on(&root).u64(cookie).raw(verifier).u32(count);
                match plus {
                    true => nfs.call(READDIRPLUS, &arguments.u32(count)),
                    false => nfs.call(READDIR, &arguments),
                }
            };
            for plus in [false, true] {
                let whole = list(&mut nfs, plus, 0, &[0; 8], u32::MAX);
                assert_eq!(whole.status(), 0);
                let at = (2 + ATTRIBUTES_WORDS) * 4;
                let verifier = whole.body[at..at + 8].to_vec();
                for count in [0, 1, 100] {
                    assert_eq!(list(&mut nfs, plus, 0, &[0; 8], count).status(), TOOSMALL, "{count}");
                }
                for cookie in [u64::MAX, 1 << 63] {
                    assert_eq!(list(&mut nfs, plus, cookie, &verifier, 4096).status(), BAD_COOKIE);
                }
                assert_eq!(list(&mut nfs, plus, 1, &[0xa5; 8], 4096).status(), BAD_COOKIE, "another verifier");
                for cookie in [1, 77, 1 << 40, i64::MAX as u64] {
                    let status = list(&mut nfs, plus, cookie, &verifier, 4096).status();
                    assert!([0, BAD_COOKIE].contains(&status), "{status}");
                }
            }
            assert_eq!(case.sh("user", "cat /workspace/f; stat -c %s /workspace/f"), "hello5");
        },
    );
}

#[test]
fn f21_no_client_is_who_the_sandbox_has_not() {
    let is_plain = |case: &Case| case.starter == Starter::Plain;
    case::each_with_nfs(
        |builder| builder,
        |case| {
            let mut nfs = connect(case, 0);
            let root = nfs.mount(&case.id).expect("mount");
            nfs.call(SETATTR, &on(&root).attributes(Some(0o1777), None, None, None).u32(0));
            for (number, id) in [65_534, 65_535, 65_536, 131_072, 1 << 30, u32::MAX].into_iter().enumerate() {
                let mut liar = connect(case, id);
                liar.who.groups = vec![id, 0, 65_535];
                let name = format!("f{number}");
                create(&mut liar, &root, name.as_bytes());
                let owner = case.sh("user", &format!("stat -c %u /workspace/{name}"));
                // Where there is one id, everybody is that one.
                assert_eq!(owner, if is_plain(case) { "1000" } else { "65534" }, "{id}");
            }
            if is_plain(case) {
                return;
            }
            // Nobody's own rights are few.
            case.sh("root", "echo s >/workspace/secret; chmod 600 /workspace/secret");
            let secret = nfs.lookup(&root, b"secret").expect("secret");
            assert_eq!(read(&mut nfs, &secret, 0, 10), (0, b"s\n".to_vec()), "control: root of the sandbox");
            for id in [1000, 65_535, 1 << 30, u32::MAX] {
                let mut liar = connect(case, id);
                assert_eq!(read(&mut liar, &secret, 0, 10).0, ACCES, "{id}");
                assert_eq!(write(&mut liar, &secret, 0, 1, b"x"), ACCES);
            }
            let tool = create(&mut nfs, &root, b"tool");
            for id in [65_535, 1 << 20, u32::MAX - 1] {
                let given = on(&tool).attributes(None, Some(id), Some(id), None).u32(0);
                assert_eq!(nfs.call(SETATTR, &given).status(), 0);
                assert_eq!(case.sh("user", "stat -c %u:%g /workspace/tool"), "65534:65534", "{id}");
            }
            assert_eq!(setuid_of_root(&mut nfs, &root), 0, "no setuid of root's is shown");
            assert_eq!(device(&mut nfs, &root), NOTSUPP);
        },
    );
    // What the export was asked for, it does: the other test can fail.
    case::each_with_nfs(
        |builder| builder.env("WORKSPACE_NFS_CLIENTS", "trusted"),
        |case| {
            if is_plain(case) {
                return;
            }
            let mut nfs = connect(case, 0);
            let root = nfs.mount(&case.id).expect("mount");
            assert_eq!(setuid_of_root(&mut nfs, &root), 0o6000);
            assert_eq!(device(&mut nfs, &root), 0);
            assert_eq!(case.sh("user", "stat -c %F /workspace/device"), "socket", "a device for clients alone");
        },
    );
}

/// Makes a program of root's with 06777; gives the bits above 0777 that a client sees.
fn setuid_of_root(nfs: &mut Nfs, root: &[u8]) -> u32 {
    let tool = create(nfs, root, b"su");
    let changes = on(&tool).attributes(Some(0o6777), Some(0), Some(0), None).u32(0);
    assert_eq!(nfs.call(SETATTR, &changes).status(), 0);
    let reply = nfs.call(GETATTR, &on(&tool));
    // Type, mode, links, uid, gid.
    assert_eq!((reply.status(), reply.word(4), reply.word(5)), (0, 0, 0));
    reply.word(2) & 0o6000
}

fn device(nfs: &mut Nfs, root: &[u8]) -> u32 {
    let made = on(root).bytes(b"device").u32(3).attributes(Some(0o666), None, None, None).u32(8).u32(0);
    nfs.call(MKNOD, &made).status()
}

#[test]
fn f23_a_link_is_text_to_the_server() {
    case::each_with_nfs(
        |builder| builder,
        |case| {
            let mut nfs = connect(case, 0);
            let root = nfs.mount(&case.id).expect("mount");
            let symlink = |nfs: &mut Nfs, name: &[u8], target: &[u8]| {
                let head = on(&root).bytes(name).attributes(None, None, None, None);
                nfs.call(SYMLINK, &head.bytes(target))
            };
            for (number, target) in ["/etc/shadow", "/proc/self/root", "../../..", "."].into_iter().enumerate() {
                let name = format!("link{number}");
                let link = symlink(&mut nfs, name.as_bytes(), target.as_bytes()).handle(true);
                let reply = nfs.call(READLINK, &on(&link));
                assert_eq!((reply.status(), reply.bytes(2 + ATTRIBUTES_WORDS)), (0, target.as_bytes()));
                assert_eq!(read(&mut nfs, &link, 0, 100).0, INVAL);
                assert_eq!(write(&mut nfs, &link, 0, 1, b"x"), INVAL);
                for name in [&b"passwd"[..], b"..", b"."] {
                    assert_eq!(nfs.lookup(&link, name), Err(NOTDIR));
                }
                let through = nfs.call(CREATE, &on(&link).bytes(b"x").raw(&plain_file().0)).status();
                assert_eq!(through, NOTDIR);
                // Neither is it followed as the last name.
                let over = nfs.call(CREATE, &on(&root).bytes(name.as_bytes()).raw(&plain_file().0)).status();
                assert_eq!(over, EXIST);
            }
            let whole = [b'x'; 4095];
            assert_eq!(symlink(&mut nfs, b"long", &whole).status(), 0);
            assert_eq!(symlink(&mut nfs, b"longer", &[b'x'; 4096]).status(), NAMETOOLONG);
            assert_eq!(symlink(&mut nfs, b"nul", b"a\0b").status(), INVAL);
            assert_eq!(symlink(&mut nfs, b"empty", b"").status(), INVAL);
            assert_eq!(read(&mut nfs, &root, 0, 10).0, ISDIR);
            let huge = nfs.next_xid();
            let head = on(&root).bytes(b"huge").attributes(None, None, None, None);
            let call = nfs.bytes_of(huge, 100_003, 3, SYMLINK, &head.bytes(&vec![b'x'; 1 << 20]));
            nfs.send(&call).expect("send");
            let refused = nfs.receive().map(|(_, reply)| reply.how != 0 || reply.word(0) != 0);
            assert!(refused.unwrap_or(true), "a target of 1 MiB");
        },
    );
}
