//! F18 with F02's race: NFS clients go through a directory that a process inside swaps with a link.

use super::{NOTDIR, connect, on, plain_file, read};
use crate::case::Case;
use crate::kit::nfs_client::procedure::*;
use crate::program::{Program, nonce, program};
use crate::swap::Race;
use crate::weak::{Control, Weak};
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt;

const FILES: Program = program!("files");

/// A directory is swapped with a link to a canary's, again and again, while two clients go through it.
pub(super) fn run(case: &Case) {
    let canary = nonce();
    let outside = case.server.data_dir().parent().expect("parent").join(format!("outside-{canary}"));
    fs::create_dir(&outside).expect("mkdir");
    fs::set_permissions(&outside, fs::Permissions::from_mode(0o777)).expect("chmod");
    fs::write(outside.join("f"), format!("canary {canary}")).expect("write");
    let neighbour = format!("/data/sandboxes/{}/workspace", case.neighbour);
    let host = outside.to_string_lossy().into_owned();
    for target in [&host[..], &neighbour[..], "../../../../data"] {
        case.sh("user", &format!("cd /workspace; rm -rf d l; mkdir d; echo inside >d/f; ln -s '{target}' l"));
        let race = Race::new(case);
        std::thread::scope(|scope| {
            scope.spawn(|| race.swap(case, "1000", "/workspace/d", "/workspace/l"));
            for worker in 0..2 {
                let race = &race;
                scope.spawn(move || {
                    let mut nfs = connect(case, if worker == 0 { 0 } else { 1000 });
                    let root = nfs.mount(&case.id).expect("mount");
                    let mut round = 0;
                    while !race.is_done() {
                        round += 1;
                        let Ok(directory) = nfs.lookup(&root, b"d") else { continue };
                        let name = format!("new-{worker}-{round}");
                        let made = nfs.call(CREATE, &on(&directory).bytes(name.as_bytes()).raw(&plain_file().0));
                        assert!([0, NOTDIR].contains(&made.status()), "{}", made.status());
                        let (from, to) = (on(&directory).bytes(name.as_bytes()), on(&root).bytes(name.as_bytes()));
                        let moved = nfs.call(RENAME, &from.clone().raw(&to.0)).status();
                        assert!([0, NOTDIR].contains(&moved), "{moved}");
                        nfs.call(REMOVE, &to);
                        match nfs.lookup(&directory, b"f") {
                            Ok(file) => {
                                assert_eq!(read(&mut nfs, &file, 0, 4096), (0, b"inside\n".to_vec()));
                                race.reached();
                            }
                            Err(status) => assert_eq!(status, NOTDIR),
                        }
                    }
                });
            }
        });
        let left: Vec<_> = fs::read_dir(&outside).expect("read").flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(left, ["f"], "nothing outside was made, moved or removed");
    }
    let neighbours = case.run_in(&case.neighbour, &json!({"command": "ls", "args": ["-A", "/workspace"]}));
    assert_eq!(neighbours.expect(200).json()["stdout"], "canary\n");
    fs::remove_dir_all(&outside).expect("remove");
}

/// The same race against one who checks a path and then opens it.
pub(super) fn control() {
    let control = Control::of(FILES);
    let (outside, base) = (control.path("outside"), control.path("base"));
    for dir in [&outside, &base] {
        fs::create_dir(dir).expect("mkdir");
        fs::set_permissions(dir, fs::Permissions::from_mode(0o777)).expect("chmod");
    }
    fs::write(format!("{outside}/f"), "c").expect("write");
    if let Some(lines) = control.run(Weak::Plain, &["naive", &base, &outside]) {
        lines.complete().expect("naive_escapes", &["ok"]);
    }
}
