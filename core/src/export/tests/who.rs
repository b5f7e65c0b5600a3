//! Is each call made as its caller, and as nobody else?

use super::*;

#[test]
fn permission_is_that_of_the_caller() {
    if !is_root() {
        return;
    }
    let ground = Ground::new();
    let exports = ground.exports();
    let root = exports.root(ground.id).unwrap().handle;
    let secret = file(&exports, &root, "secret", 0, 0o600);
    exports.write(&caller(0), &secret, 0, b"x", Stable::Unstable).result.unwrap();
    let denied = Fault::Os(Errno::ACCESS);
    assert_eq!(read(&exports, 1000, &secret).unwrap_err(), denied);
    assert_eq!(exports.write(&caller(1000), &secret, 0, b"y", Stable::Unstable).result, Err(denied));
    let create = exports.create(&caller(1000), &root, b"new", &Create::Guarded(mode(0o644)));
    assert_eq!(create.result.map(|_| ()), Err(denied));
    assert_eq!(exports.remove(&caller(1000), &root, b"secret").result, Err(denied));
    assert_eq!(exports.change(&caller(1000), &secret, &mode(0o777), None).result, Err(Fault::Os(Errno::PERM)));
    assert_eq!(exports.access(&caller(1000), &secret, 0x3f).unwrap().0, 0);
    assert_eq!(exports.access(&caller(0), &secret, 0x3f).unwrap().0, 0x0d);
    // An owner goes on with what it opened, whatever the mode has become.
    assert_eq!(exports.change(&caller(0), &root, &mode(0o1777), None).result, Ok(()));
    let own = file(&exports, &root, "own", 1000, 0o000);
    assert_eq!(exports.write(&caller(1000), &own, 0, b"mine", Stable::Unstable).result, Ok(Stable::Unstable));
    assert_eq!(read(&exports, 1000, &own).unwrap(), b"mine");
    assert_eq!(read(&exports, 1001, &own).unwrap_err(), denied);
    assert_eq!(std::fs::metadata(ground.path("own")).unwrap().uid(), 1000);
    assert_eq!(exports.remove(&caller(1001), &root, b"own").result, Err(Fault::Os(Errno::PERM)), "sticky");
    // Groups count, and are those of this call alone.
    let shared = file(&exports, &root, "shared", 0, 0o640);
    let changes = Changes { gid: Some(50), ..Changes::default() };
    assert_eq!(exports.change(&caller(0), &shared, &changes, None).result, Ok(()));
    let member = Caller { groups: vec![50], ..caller(1000) };
    assert!(exports.read(&member, &shared, 0, ReadTo::Memory(&mut Vec::new()), 1, &|| ()).is_ok());
    assert_eq!(read(&exports, 1000, &shared).unwrap_err(), denied);
}

#[test]
fn no_caller_is_an_id_that_the_sandbox_has_not() {
    if !is_root() {
        return;
    }
    let ground = Ground::new();
    let exports = ground.exports();
    let root = exports.root(ground.id).unwrap().handle;
    exports.change(&caller(0), &root, &mode(0o777), None).result.unwrap();
    for (number, id) in [65_534, 65_535, 65_536, 524_288, u32::MAX, u32::MAX - 1].into_iter().enumerate() {
        let name = format!("f{number}");
        file(&exports, &root, &name, id, 0o644);
        let meta = std::fs::metadata(ground.path(&name)).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (65_534, 65_534), "{id}");
    }
    let own = file(&exports, &root, "own", 0, 0o755);
    for id in [65_535, 1 << 20, u32::MAX] {
        let changes = Changes { uid: Some(id), gid: Some(id), ..Changes::default() };
        let after = exports.change(&caller(0), &own, &changes, None).weak.after.unwrap();
        assert_eq!((after.uid, after.gid), (65_534, 65_534), "{id}");
    }
    let to_root = Changes { uid: Some(0), gid: Some(0), ..mode(0o6777) };
    let after = exports.change(&caller(0), &own, &to_root, None).weak.after.unwrap();
    assert_eq!((after.uid, after.mode), (0, 0o777), "no setuid of root is shown");
    for special in [Special::BlockDevice(8, 1), Special::CharacterDevice(1, 3)] {
        let made = exports.make_node(&caller(0), &root, b"dev", special, &mode(0o666));
        assert_eq!(made.result.map(|_| ()), Err(Fault::NotSupported));
    }
}

#[test]
fn trusted_clients_see_what_they_made() {
    if !is_root() {
        return;
    }
    let ground = Ground::new();
    let exports = ground.exports_for(Clients::Trusted);
    let root = exports.root(ground.id).unwrap().handle;
    let made = exports.make_node(&caller(0), &root, b"null", Special::CharacterDevice(1, 3), &mode(0o666));
    let device = made.result.unwrap();
    let changes = Changes { uid: Some(123_456), gid: Some(654_321), ..mode(0o640) };
    exports.change(&caller(0), &device.handle, &changes, None).result.unwrap();
    let not_root = exports.make_node(&caller(1000), &root, b"other", Special::BlockDevice(8, 0), &mode(0o666));
    assert_eq!(not_root.result.map(|_| ()), Err(Fault::Os(Errno::PERM)));
    // On disk, and so inside, it is a socket of nobody's.
    let meta = std::fs::symlink_metadata(ground.path("null")).unwrap();
    assert!(std::os::unix::fs::FileTypeExt::is_socket(&meta.file_type()));
    assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (65_534, 65_534, 0o640));
    for exports in [exports.clone(), ground.exports_for(Clients::Trusted)] {
        let shown = find(&exports, &root, "null").unwrap().attributes;
        assert_eq!((shown.kind, shown.rdev, shown.mode), (Kind::CharacterDevice, (1, 3), 0o640));
        assert_eq!((shown.uid, shown.gid), (123_456, 654_321));
    }
    let guarded = ground.exports();
    let shown = find(&guarded, &root, "null").unwrap().attributes;
    assert_eq!((shown.kind, shown.uid), (Kind::Socket, 65_534));
    // A name that is given to another leaves its marks behind.
    assert_eq!(exports.remove(&caller(0), &root, b"null").result, Ok(()));
    let marks = ground.top.join(ground.id.as_str()).join("marks");
    assert_eq!(std::fs::read_dir(marks).unwrap().count(), 0);
    let tool = file(&exports, &root, "su", 0, 0o755);
    exports.change(&caller(0), &tool, &mode(0o4755), None).result.unwrap();
    assert_eq!(exports.attributes(&tool).unwrap().mode, 0o4755);
    assert_eq!(guarded.attributes(&tool).unwrap().mode, 0o755);
}
