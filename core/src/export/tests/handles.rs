//! Do handles and names lead where they should, and nowhere else?

use super::*;

#[test]
fn handles_outlive_the_server_moves_and_links() {
    if !is_root() {
        return;
    }
    let ground = Ground::new();
    let exports = ground.exports();
    let root = exports.root(ground.id).unwrap().handle;
    let directory = exports.make_directory(&caller(0), &root, b"a", &mode(0o755)).result.unwrap().handle;
    let made = file(&exports, &directory, "f", 0, 0o644);
    exports.write(&caller(0), &made, 0, b"same", Stable::Unstable).result.unwrap();
    let again = ground.exports();
    assert_eq!(read(&again, 0, &made).unwrap(), b"same", "after a restart");
    // Moved by others, while nothing of it is held.
    std::fs::create_dir_all(ground.path("b/c")).unwrap();
    std::fs::rename(ground.path("a"), ground.path("b/c/a2")).unwrap();
    std::fs::rename(ground.path("b/c/a2/f"), ground.path("b/f2")).unwrap();
    for exports in [&again, &ground.exports()] {
        exports.0.nodes.clear();
        assert_eq!(read(exports, 0, &made).unwrap(), b"same");
        assert_eq!(exports.attributes(&directory).unwrap().kind, Kind::Directory);
    }
    // One of two names goes; the other stays, and so does the handle.
    let (linked, _, _) = again.link(&caller(0), &made, &directory, b"second");
    assert_eq!(linked, Ok(()));
    assert_eq!(find(&again, &directory, "second").unwrap().handle, made);
    std::fs::remove_file(ground.path("b/f2")).unwrap();
    assert_eq!(read(&again, 0, &made).unwrap(), b"same");
    let (moved, _, _) = again.rename(&caller(0), &directory, b"second", &root, b"third");
    assert_eq!(moved, Ok(()));
    again.0.nodes.clear();
    assert_eq!(read(&again, 0, &made).unwrap(), b"same");
    assert_eq!(again.remove(&caller(0), &root, b"third").result, Ok(()));
    assert_eq!(read(&again, 0, &made).unwrap_err(), Fault::Stale);
}

#[test]
fn what_left_the_export_is_stale() {
    if !is_root() {
        return;
    }
    let ground = Ground::new();
    let exports = ground.exports();
    let root = exports.root(ground.id).unwrap().handle;
    let directory = exports.make_directory(&caller(0), &root, b"d", &mode(0o755)).result.unwrap().handle;
    let inner = file(&exports, &directory, "f", 0, 0o644);
    let top = ground.path("").parent().unwrap().join("home/d");
    std::fs::rename(ground.path("d"), &top).unwrap();
    for handle in [&directory, &inner] {
        assert_eq!(exports.attributes(handle).unwrap_err(), Fault::Stale);
        assert_eq!(read(&exports, 0, handle).unwrap_err(), Fault::Stale);
    }
    assert_eq!(find(&exports, &directory, "..").unwrap_err(), Fault::Stale);
    std::fs::rename(&top, ground.path("back")).unwrap();
    assert!(read(&exports, 0, &inner).is_ok(), "control: the same handle, back again");
    // The same number, another file: whatever the file system gives it.
    let old = file(&exports, &root, "once", 0, 0o644);
    std::fs::remove_file(ground.path("once")).unwrap();
    for round in 0..64 {
        std::fs::write(ground.path("once"), [round]).unwrap();
        assert_eq!(exports.attributes(&old).unwrap_err(), Fault::Stale);
        std::fs::remove_file(ground.path("once")).unwrap();
    }
    ground.there.store(false, Ordering::Relaxed);
    for handle in [&root, &inner] {
        assert_eq!(exports.attributes(handle).unwrap_err(), Fault::Stale, "the sandbox is deleted");
    }
    assert_eq!(exports.root(ground.id).unwrap_err(), Fault::Stale);
}

#[test]
fn names_are_one_component() {
    if !is_root() {
        return;
    }
    let ground = Ground::new();
    let exports = ground.exports();
    let root = exports.root(ground.id).unwrap().handle;
    assert_eq!(find(&exports, &root, "..").unwrap().handle, root);
    assert_eq!(find(&exports, &root, ".").unwrap().handle, root);
    std::os::unix::fs::symlink("/etc", ground.path("link")).unwrap();
    let link = find(&exports, &root, "link").unwrap();
    assert_eq!(link.attributes.kind, Kind::Symlink);
    assert_eq!(find(&exports, &link.handle, "passwd").unwrap_err(), Fault::Os(Errno::NOTDIR));
    assert_eq!(exports.link_target(&caller(0), &link.handle).unwrap().0, b"/etc");
    let long = "a".repeat(256);
    let faults = [("", Errno::INVAL), ("a/b", Errno::INVAL), ("a\0b", Errno::INVAL), (&long[..], Errno::NAMETOOLONG)];
    for (name, errno) in faults {
        let (bytes, fault) = (name.as_bytes(), Fault::Os(errno));
        assert_eq!(find(&exports, &root, name).unwrap_err(), fault, "{name:?}");
        let made = exports.create(&caller(0), &root, bytes, &Create::Guarded(mode(0o644)));
        assert_eq!(made.result.map(|_| ()), Err(fault));
        assert_eq!(exports.remove(&caller(0), &root, bytes).result, Err(fault));
        assert_eq!(exports.rename(&caller(0), &root, b"link", &root, bytes).0, Err(fault));
        assert_eq!(exports.link(&caller(0), &link.handle, &root, bytes).0, Err(fault));
    }
    assert_eq!(exports.remove_directory(&caller(0), &root, b".").result, Err(Fault::Os(Errno::INVAL)));
    let target = [b'x'; 4096];
    let symlink = |target: &[u8]| exports.symlink(&caller(0), &root, b"s", target, &Changes::default()).result;
    assert_eq!(symlink(&target).map(|_| ()), Err(Fault::Os(Errno::NAMETOOLONG)));
    assert_eq!(symlink(b"a\0b").map(|_| ()), Err(Fault::Os(Errno::INVAL)));
    assert!(symlink(&target[..4095]).is_ok());
}

#[test]
fn nothing_that_waits_or_acts_is_opened() {
    if !is_root() {
        return;
    }
    let ground = Ground::new();
    let exports = ground.exports();
    let root = exports.root(ground.id).unwrap().handle;
    for (name, special, kind) in [("p", Special::Fifo, Kind::Fifo), ("s", Special::Socket, Kind::Socket)] {
        let made = exports.make_node(&caller(0), &root, name.as_bytes(), special, &mode(0o640)).result.unwrap();
        assert_eq!((made.attributes.kind, made.attributes.mode), (kind, 0o640));
        assert_eq!(read(&exports, 0, &made.handle).unwrap_err(), Fault::Os(Errno::INVAL));
        let written = exports.write(&caller(0), &made.handle, 0, b"x", Stable::Unstable);
        assert_eq!(written.result, Err(Fault::Os(Errno::INVAL)));
        assert_eq!(exports.commit(&caller(0), &made.handle, 0, 0).result, Err(Fault::Os(Errno::INVAL)));
    }
    assert_eq!(read(&exports, 0, &root).unwrap_err(), Fault::Os(Errno::ISDIR));
}
