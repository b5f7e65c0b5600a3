//! Is everything that was acknowledged there after `kill -9`, and after a disk that was full?

use super::record::tests::sample;
use super::tests::{Dir, close, page};
use super::*;
use crate::shard::mailbox::block_on;
use futures_util::future::join_all;
use std::io::{BufRead, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Runs one of the two tests below in a process of its own.
fn child(dir: &Dir, test: &str, wrapper: &[&str]) -> Command {
    let program = std::env::current_exe().unwrap();
    let mut line: Vec<&std::ffi::OsStr> = wrapper.iter().map(std::ffi::OsStr::new).collect();
    line.push(program.as_os_str());
    let mut command = Command::new(line[0]);
    command.args(&line[1..]).args(["--exact", test, "--nocapture", "--test-threads=1"]);
    command.env("STORE_CHILD_DIR", &dir.0).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// `kill -9` in the middle of puts, five times: all that was acknowledged is there.
#[test]
fn nothing_acknowledged_is_lost_by_kill() {
    let dir = Dir::new("kill");
    let mut acknowledged = Vec::new();
    for round in 1..=5_usize {
        let mut writing = child(&dir, "store::crash_tests::child_writes", &[]).spawn().unwrap();
        let mut lines = BufReader::new(writing.stdout.take().unwrap()).lines();
        let enough = acknowledged.len() + 700 * round;
        let mut number = || lines.find_map(|line| line.ok()?.strip_prefix("kept ")?.parse::<u64>().ok());
        while acknowledged.len() < enough {
            acknowledged.push(number().expect("the child ended by itself"));
        }
        writing.kill().unwrap();
        while let Some(n) = number() {
            acknowledged.push(n);
        }
        writing.wait().unwrap();
        let store = Store::open(&dir.file()).unwrap();
        for n in &acknowledged {
            assert!(store.get(&sample(*n).id).unwrap().is_some(), "{n} of round {round}");
        }
        let all = store.all().unwrap().len();
        assert_eq!(page(&store, &ListFilter { limit: 1, ..ListFilter::default() }).total, all);
        close(store);
    }
}

#[test]
fn child_writes() {
    let Some(dir) = std::env::var_os("STORE_CHILD_DIR") else { return };
    let store = Store::open(&PathBuf::from(dir).join("workspace.mdb")).unwrap();
    let from = store.all().unwrap().len() as u64 * 2;
    for batch in 0.. {
        let numbers: Vec<u64> = (0..50).map(|n| from + batch * 50 + n).collect();
        let answers = block_on(join_all(numbers.iter().map(|n| store.put(sample(*n)))));
        let mut out = std::io::stdout().lock();
        for (n, answer) in numbers.iter().zip(answers) {
            answer.unwrap();
            writeln!(out, "kept {n}").unwrap();
        }
    }
}

/// A disk of 8 MiB: full is NoSpace, what was kept stays, and room makes it work again.
#[test]
fn a_full_disk_is_an_answer() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root");
        return;
    }
    let dir = Dir::new("disk");
    let mount = format!("mount -t tmpfs -o size=8m none '{}' && exec \"$0\" \"$@\"", dir.0.display());
    // The mount lies in a mount namespace of its own and ends with it.
    let filling = child(&dir, "store::crash_tests::child_fills", &["unshare", "-m", "sh", "-c", &mount]).output();
    let filled = match filling {
        Ok(output) if output.status.code() == Some(1) => {
            println!("skipped: no mount namespace here");
            return;
        }
        Ok(output) => output,
        Err(error) => panic!("unshare: {error}"),
    };
    let text = String::from_utf8_lossy(&filled.stdout).into_owned();
    assert!(
        filled.status.success() && text.contains("filled and freed"),
        "{text}{}",
        String::from_utf8_lossy(&filled.stderr)
    );
}

#[test]
fn child_fills() {
    let Some(dir) = std::env::var_os("STORE_CHILD_DIR").map(PathBuf::from) else { return };
    let store = Store::open(&dir.join("workspace.mdb")).unwrap();
    let ballast = dir.join("ballast");
    std::fs::write(&ballast, vec![1; 512 << 10]).unwrap();
    let mut kept = Vec::new();
    for n in 0.. {
        // Large and small in one batch: the small ones may still fit where the large one does not.
        let large = Record { name: "x".repeat(60_000), ..sample(n * 2) };
        let answers = block_on(join_all([store.put(large), store.put(sample(n * 2 + 1))]));
        let full = answers.iter().any(Result::is_err);
        for (answer, id) in answers.into_iter().zip([sample(n * 2).id, sample(n * 2 + 1).id]) {
            match answer {
                Ok(()) => kept.push(id),
                Err(error) => assert_eq!(error.reason, Reason::NoSpace, "{error}"),
            }
        }
        if full {
            break;
        }
    }
    assert!(kept.len() > 20, "{}", kept.len());
    // Not even a byte is left for others.
    let mut filler = std::fs::File::create(dir.join("filler")).unwrap();
    while filler.write_all(&[1; 4096]).is_ok() {}
    let (kept, removed) = kept.split_at(kept.len() - 3);
    let all_there = |store: &Store| kept.iter().all(|id| store.get(id).unwrap().is_some());
    assert!(all_there(&store), "what was kept can be read on a full disk");
    // A full disk can be emptied: what is known is marked and removed, only new records are refused.
    for id in removed {
        let record = store.get(id).unwrap().unwrap();
        block_on(store.put(Record { dying: true, ..record })).unwrap();
        assert_eq!(block_on(store.put(sample(2_000_000))).unwrap_err().reason, Reason::NoSpace);
        block_on(store.remove(*id)).unwrap();
    }
    assert!(removed.iter().all(|id| store.get(id).unwrap().is_none()));
    close(store);
    let store = Store::open(&dir.join("workspace.mdb")).unwrap();
    assert!(all_there(&store), "and a server can be started on it");
    std::fs::remove_file(&ballast).unwrap();
    block_on(store.put(Record { name: "x".repeat(60_000), ..sample(1_000_001) })).unwrap();
    assert!(all_there(&store));
    close(store);
    assert!(all_there(&Store::open(&dir.join("workspace.mdb")).unwrap()), "and after a restart");
    println!("filled and freed");
}
