//! Do bytes, attributes, lists and room go both ways, within bounds?

use super::*;

const NAMES: ListWanted = ListWanted::Names { room_bytes: 4096 };

#[test]
fn bytes_and_attributes_go_both_ways() {
    if !is_root() {
        return;
    }
    let ground = Ground::new();
    let exports = ground.exports();
    let root = exports.root(ground.id).unwrap().handle;
    let made = file(&exports, &root, "f", 0, 0o666);
    assert_eq!(std::fs::metadata(ground.path("f")).unwrap().mode() & 0o7777, 0o666, "no umask");
    let written = exports.write(&caller(0), &made, 5, b"hello", Stable::File);
    assert_eq!(written.result, Ok(Stable::File));
    assert_eq!((written.weak.before.unwrap().0, written.weak.after.unwrap().size), (0, 10));
    assert_eq!(read(&exports, 0, &made).unwrap(), b"\0\0\0\0\0hello");
    let mut some = b"kept".to_vec();
    let end = exports.read(&caller(0), &made, 5, ReadTo::Memory(&mut some), 2, &|| ()).unwrap();
    assert_eq!((&some[..], end.bytes, end.eof), (&b"kepthe"[..], 2, false));
    assert!(exports.read(&caller(0), &made, 8, ReadTo::Memory(&mut some), 2, &|| ()).unwrap().eof);
    assert_eq!(find(&exports, &root, "f").unwrap().handle, made);
    exports.commit(&caller(0), &made, 0, 0).result.unwrap();
    let at = Time { seconds: 4_102_444_800, nanoseconds: 987_654_321 };
    let changes = Changes { size: Some(3), mtime: Some(SetTime::At(at)), ..mode(0o640) };
    let changed = exports.change(&caller(0), &made, &changes, None);
    assert_eq!(changed.result, Ok(()));
    let after = changed.weak.after.unwrap();
    assert_eq!((after.size, after.mtime, after.mode), (3, at, 0o640));
    let guard = Time { seconds: 1, nanoseconds: 1 };
    assert_eq!(exports.change(&caller(0), &made, &mode(0), Some(guard)).result, Err(Fault::NotSync));
    assert_eq!(exports.change(&caller(0), &made, &mode(0), Some(after.ctime)).result, Ok(()));
}

#[test]
fn lists_go_on_where_they_ended() {
    if !is_root() {
        return;
    }
    let ground = Ground::new();
    for number in 0..3000 {
        std::fs::write(ground.path(&format!("entry-{number:05}")), "").unwrap();
    }
    let exports = ground.exports();
    let root = exports.root(ground.id).unwrap().handle;
    let pages = |page: usize, wanted: ListWanted| {
        let plus = matches!(wanted, ListWanted::All { .. });
        let (mut names, mut cookie, mut verifier) = (Vec::new(), 0, 0);
        loop {
            let (mut count, from) = (0, cookie);
            let mut each = |entry: ListEntry<'_>| {
                if count == page {
                    return false;
                }
                count += 1;
                let dotted = entry.name == b"." || entry.name == b"..";
                assert_eq!(entry.handle.is_some(), plus && !dotted);
                names.push(entry.name.to_vec());
                cookie = entry.cookie;
                true
            };
            let end = exports.list(&caller(0), &root, from, verifier, wanted, &mut each).unwrap();
            verifier = end.verifier;
            if end.eof {
                return names;
            }
        }
    };
    let mut all = pages(7000, NAMES);
    // Whatever is read ahead for a reply, and whatever of it is not taken.
    for room_bytes in [0, 8 << 10, 128 << 10, usize::MAX] {
        assert_eq!(all, pages(97, ListWanted::All { room_bytes }));
        assert_eq!(all, pages(1500, ListWanted::Names { room_bytes }));
    }
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 3002);
    let mut none = |_: ListEntry<'_>| true;
    let verifier = exports.list(&caller(0), &root, 0, 0, NAMES, &mut none).unwrap().verifier;
    for (cookie, verifier) in [(1, verifier ^ 1), (u64::MAX, verifier), (1 << 63, verifier)] {
        let end = exports.list(&caller(0), &root, cookie, verifier, NAMES, &mut none);
        assert_eq!(end.unwrap_err(), Fault::BadCookie);
    }
    std::fs::set_permissions(ground.path(""), std::fs::Permissions::from_mode(0o700)).unwrap();
    let end = exports.list(&caller(1000), &root, 0, 0, NAMES, &mut none);
    assert_eq!(end.unwrap_err(), Fault::Os(Errno::ACCESS));
}

#[test]
fn offsets_do_not_wrap_and_the_limit_holds() {
    if !is_root() {
        return;
    }
    let mut ground = Ground::new();
    ground.disk_bytes = 1 << 20;
    let exports = ground.exports();
    let root = exports.root(ground.id).unwrap().handle;
    // Nobody's room is measured by what a caller may see of it.
    exports.change(&caller(0), &root, &mode(0o777), None).result.unwrap();
    let made = file(&exports, &root, "first", 1000, 0o644);
    let written = exports.write(&caller(1000), &made, 0, b"xy", Stable::Unstable);
    assert_eq!(written.result, Ok(Stable::Unstable));
    let made = file(&exports, &root, "f", 0, 0o644);
    for offset in [u64::MAX, 1 << 63, i64::MAX as u64] {
        let written = exports.write(&caller(0), &made, offset, b"xy", Stable::Unstable);
        assert_eq!(written.result, Err(Fault::Os(Errno::FBIG)), "{offset}");
    }
    for offset in [u64::MAX, 1 << 63] {
        assert!(exports.read(&caller(0), &made, offset, ReadTo::Memory(&mut Vec::new()), 1, &|| ()).is_err());
        assert!(exports.commit(&caller(0), &made, offset, u32::MAX).result.is_err());
    }
    let sized = |size| exports.change(&caller(0), &made, &Changes { size: Some(size), ..Changes::default() }, None);
    assert_eq!(sized(1 << 63).result, Err(Fault::Os(Errno::FBIG)));
    assert_eq!(sized(1 << 40).result, Ok(()), "sparse");
    assert_eq!(sized(0).result, Ok(()));
    // Over and over the same bytes: nothing grows.
    let piece = vec![1; 256 << 10];
    for _ in 0..16 {
        assert!(exports.write(&caller(0), &made, 0, &piece, Stable::Unstable).result.is_ok());
    }
    let written = (1..8).map(|n| exports.write(&caller(0), &made, n << 18, &piece, Stable::Unstable).result);
    let written: Vec<_> = written.collect();
    assert_eq!((written[0], written[6]), (Ok(Stable::Unstable), Err(Fault::Os(Errno::NOSPC))));
    let (space, _) = exports.space(&root).unwrap();
    assert_eq!(space.total_bytes, 1 << 20);
    assert!(space.available_bytes < 256 << 10, "{space:?}");
    assert_eq!(exports.remove(&caller(0), &root, b"f").result, Ok(()));
    let other = file(&exports, &root, "g", 0, 0o644);
    assert!(exports.write(&caller(0), &other, 0, &piece, Stable::Unstable).result.is_ok());
}

#[test]
fn an_exclusive_file_knows_its_maker() {
    if !is_root() {
        return;
    }
    let ground = Ground::new();
    let exports = ground.exports();
    let root = exports.root(ground.id).unwrap().handle;
    let create = |verifier| exports.create(&caller(0), &root, b"f", &Create::Exclusive(verifier)).result;
    let made = create([0xff; 8]).unwrap().handle;
    assert_eq!(create([0xff; 8]).unwrap().handle, made);
    assert_eq!(create([1; 8]).map(|_| ()), Err(Fault::Os(Errno::EXIST)));
    let again = exports.create(&caller(0), &root, b"f", &Create::Guarded(mode(0o644)));
    assert_eq!(again.result.map(|_| ()), Err(Fault::Os(Errno::EXIST)));
    let taken = exports.create(&caller(0), &root, b"f", &Create::Unchecked(mode(0o777))).result.unwrap();
    assert_eq!((taken.handle, taken.attributes.mode), (made, 0));
    std::os::unix::fs::symlink("nowhere", ground.path("l")).unwrap();
    for how in [Create::Unchecked(mode(0o644)), Create::Exclusive([1; 8])] {
        assert!(exports.create(&caller(0), &root, b"l", &how).result.is_err());
    }
    assert!(!ground.path("nowhere").exists());
}

#[test]
fn a_program_just_written_can_run() {
    if !is_root() {
        return;
    }
    let ground = Ground::new();
    let exports = ground.exports();
    let root = exports.root(ground.id).unwrap().handle;
    let made = file(&exports, &root, "tool", 0, 0o755);
    let bytes = std::fs::read("/bin/true").unwrap();
    exports.write(&caller(0), &made, 0, &bytes, Stable::Unstable).result.unwrap();
    assert_eq!(read(&exports, 0, &made).unwrap(), bytes);
    assert!(std::process::Command::new(ground.path("tool")).status().unwrap().success());
}
