//! Is everything that was acknowledged there, whatever happened to the process, the disk or the file?

use super::env::{Failure, Gate};
use super::record::tests::sample;
use super::*;
use crate::sandbox::State;
use crate::shard::mailbox::block_on;
use futures_util::future::join_all;
use std::path::PathBuf;

/// A directory that is removed at the end.
pub(super) struct Dir(pub(super) PathBuf);

impl Dir {
    pub(super) fn new(name: &str) -> Dir {
        let path = std::env::temp_dir().join(format!("workspace-store-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Dir(path)
    }

    pub(super) fn file(&self) -> PathBuf {
        self.0.join("workspace.mdb")
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Closes a store and waits until its threads have let go of the file.
pub(super) fn close(store: Store) {
    let gate = Arc::downgrade(&store.gate);
    store.close();
    // The reader's thread ends after its last sender; there is nothing to wait on but its hold on the gate.
    let ended = (0..10_000).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(1));
        gate.strong_count() == 0
    });
    assert!(ended, "somebody still holds the database");
}

pub(super) fn page(store: &Store, filter: &ListFilter) -> RecordPage {
    block_on(store.list(filter.clone())).unwrap()
}

fn once(key: &str, digest: u64) -> Idempotency {
    Idempotency { key: key.into(), digest }
}

#[test]
fn what_was_put_is_there_and_what_was_removed_is_not() {
    let dir = Dir::new("put");
    let store = Store::open(&dir.file()).unwrap();
    let (a, b) = (sample(1), sample(2));
    block_on(store.put(a.clone())).unwrap();
    block_on(store.put(b.clone())).unwrap();
    block_on(store.put(Record { state: State::Error, ..a.clone() })).unwrap();
    assert_eq!(store.get(&a.id).unwrap().unwrap().state, State::Error);
    block_on(store.remove(b.id)).unwrap();
    block_on(store.remove(b.id)).unwrap();
    assert_eq!(store.get(&b.id).unwrap(), None);
    let other = store.clone();
    store.close();
    assert_eq!(block_on(other.put(b)).unwrap_err().reason, Reason::DatabaseError);
    close(other);
    let store = Store::open(&dir.file()).unwrap();
    assert_eq!(store.all().unwrap(), [Record { state: State::Error, ..a }]);
    let mode = std::os::unix::fs::PermissionsExt::mode(&dir.file().metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn ten_thousand_puts_are_grouped_and_order_is_kept() {
    let dir = Dir::new("many");
    let store = Store::open(&dir.file()).unwrap();
    for from in (0..10_000).step_by(1000) {
        let puts: Vec<_> = (from..from + 1000).map(|n| store.put(sample(n))).collect();
        assert!(block_on(join_all(puts)).iter().all(Result::is_ok));
    }
    let all = store.all().unwrap();
    assert_eq!(all.len(), 10_000);
    assert!(all.is_sorted_by_key(|record| (record.created_at_us, record.id)));
    // Two writes of one sandbox, not waited for: the last one stays.
    let last: Vec<_> = (0..900).map(|n| store.put(Record { timeout: n, ..sample(7) })).collect();
    assert!(block_on(join_all(last)).iter().all(Result::is_ok));
    assert_eq!(store.get(&sample(7).id).unwrap().unwrap().timeout, 899);
}

#[test]
fn a_full_queue_is_an_answer_and_dropping_a_future_undoes_nothing() {
    let dir = Dir::new("full-queue");
    let store = Store::open(&dir.file()).unwrap();
    let large = || Record { name: "x".repeat(1 << 20), ..sample(1) };
    // While somebody else has LMDB's one write transaction, the writer waits.
    let puts: Vec<_> = store
        .gate
        .with(|lmdb| {
            let held = lmdb.write()?;
            let puts = (0..70).map(|_| store.put(large())).chain((0..2000).map(|n| store.put(sample(n)))).collect();
            drop(held);
            Ok(puts)
        })
        .unwrap();
    let answers = block_on(join_all(puts));
    let (kept, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert!(kept.len() >= 63 && refused.len() > 900, "{} kept, {} refused", kept.len(), refused.len());
    assert!(refused.into_iter().all(|answer| answer.unwrap_err().reason == Reason::Overloaded));
    drop(store.put(sample(2)));
    block_on(store.put(sample(3))).unwrap();
    assert!(store.get(&sample(2).id).unwrap().is_some());
    assert_eq!(store.queued_bytes.load(Ordering::Relaxed), 0);
}

#[test]
fn pages_follow_each_other_and_count_all() {
    let dir = Dir::new("pages");
    let store = Store::open(&dir.file()).unwrap();
    // The same instant for all: then the id decides.
    let records: Vec<_> = (0..100).map(|n| Record { created_at_us: 5, dying: n == 99, ..sample(n) }).collect();
    assert!(block_on(join_all(records.into_iter().map(|r| store.put(r)))).iter().all(Result::is_ok));
    let even = vec![("even".to_string(), "true".to_string())];
    for (state, metadata, total) in [
        (None, vec![], 100),
        (None, even.clone(), 50),
        (Some(State::Running), vec![], 99),
        (Some(State::Stopping), vec![], 1),
        (Some(State::Paused), vec![], 0),
        (Some(State::Running), even, 50),
    ] {
        let mut filter = ListFilter { state, metadata, limit: 7, after: None };
        let mut seen = Vec::new();
        loop {
            let page = page(&store, &filter);
            assert_eq!(page.total, total);
            assert!(page.records.len() <= 7);
            seen.extend(page.records.iter().map(|r| (r.created_at_us, r.id)));
            match page.next {
                Some(next) => filter.after = Some(next),
                None => break,
            }
        }
        assert_eq!(seen.len(), total);
        assert!(seen.is_sorted_by(|a, b| a < b));
    }
    let exactly = page(&store, &ListFilter { limit: 100, ..ListFilter::default() });
    assert_eq!((exactly.records.len(), exactly.next), (100, None));
}

#[test]
fn a_key_makes_one_sandbox() {
    let dir = Dir::new("keys");
    let store = Store::open(&dir.file()).unwrap();
    let create = |n: u64, key: &str, digest| block_on(store.put_create(sample(n), once(key, digest))).unwrap();
    assert_eq!(create(1, "k", 7), PutCreate::Created);
    assert_eq!(create(1, "k", 7), PutCreate::Created, "the same write again");
    assert_eq!(create(2, "k", 7), PutCreate::Replayed(sample(1).id));
    assert_eq!(create(2, "k", 8), PutCreate::Conflict);
    assert_eq!(store.get(&sample(2).id).unwrap(), None, "nothing is written of a replay or a conflict");
    assert_eq!(create(3, "other scope k", 8), PutCreate::Created);
    // Deleted: the key stays used. Failed: it is free again.
    block_on(store.remove(sample(1).id)).unwrap();
    assert_eq!(create(4, "k", 7), PutCreate::Replayed(sample(1).id));
    block_on(store.undo_create(sample(3).id)).unwrap();
    assert_eq!(create(4, "other scope k", 9), PutCreate::Created);
    // A thousand at once: one is created, the others learn which.
    let same = join_all((0..1000).map(|n| store.put_create(sample(1000 + n), once("burst", 1))));
    let answers: Vec<_> = block_on(same).into_iter().map(Result::unwrap).collect();
    assert_eq!(answers[0], PutCreate::Created);
    assert!(answers[1..].iter().all(|a| *a == PutCreate::Replayed(sample(1000).id)));
    for bad in [String::new(), "x".repeat(481)] {
        let refused = block_on(store.put_create(sample(5), once(&bad, 1))).unwrap_err();
        assert_eq!(refused.reason, Reason::InvalidParameter);
    }
    assert_eq!(create(6, &"x".repeat(480), 1), PutCreate::Created);
}

#[test]
fn keys_expire_and_are_bounded() {
    let dir = Dir::new("expire");
    let store = Store::open(&dir.file()).unwrap();
    let at = |n: u64, created_at_us| Record { created_at_us, ..sample(n) };
    let create = |record, key: &str| block_on(store.put_create(record, once(key, 1))).unwrap();
    assert_eq!(create(at(1, 0), "k"), PutCreate::Created);
    assert_eq!(create(at(2, idempotency::KEPT_US), "k"), PutCreate::Replayed(sample(1).id));
    assert_eq!(create(at(3, idempotency::KEPT_US + 1), "k"), PutCreate::Created);
    for n in 0..50 {
        create(at(100 + n, n), &format!("old {n}"));
    }
    for n in 0..10 {
        create(at(200 + n, 3 * idempotency::KEPT_US), &format!("new {n}"));
    }
    let kept = store.gate.with(|lmdb| {
        let txn = lmdb.read()?;
        Ok((lmdb.idempotency().len(&txn)?, lmdb.idempotency_order().len(&txn)?))
    });
    assert_eq!(kept, Ok((10, 10)), "expired keys are cleared as new ones come");
}

#[test]
fn the_map_grows_when_it_is_full() {
    let dir = Dir::new("grow");
    let store = Store::start(Gate::open_with_map(&dir.file(), 256 << 10).unwrap()).unwrap();
    let reading = store.clone();
    let reader = std::thread::spawn(move || {
        while reading.get(&sample(0).id).is_ok_and(|found| found.is_none_or(|r| r.name != "stop")) {}
        reading.get(&sample(0).id).unwrap().unwrap().name
    });
    for from in (1..1001).step_by(100) {
        let large = (from..from + 100).map(|n| store.put(Record { name: "x".repeat(4000), ..sample(n) }));
        assert!(block_on(join_all(large)).iter().all(Result::is_ok));
    }
    block_on(store.put(Record { name: "stop".into(), ..sample(0) })).unwrap();
    assert_eq!(reader.join().unwrap(), "stop");
    assert_eq!(store.all().unwrap().len(), 1001);
    assert!(store.fill_bytes().unwrap().1 > 4 << 20);
    close(store);
    assert_eq!(Store::open(&dir.file()).unwrap().all().unwrap().len(), 1001);
}

#[test]
fn another_schema_or_record_version_stops_the_start_in_one_line() {
    let dir = Dir::new("schema");
    close(Store::open(&dir.file()).unwrap());
    let change = |schema: u32| {
        let gate = Gate::open_with_map(&dir.file(), 1 << 20).unwrap();
        let changed = gate.with(|lmdb| {
            let mut txn = lmdb.write()?;
            lmdb.meta().put(&mut txn, b"schema", &schema.to_be_bytes())?;
            lmdb.sandbox().put(&mut txn, sample(1).id.as_str().as_bytes(), &[9, 1, 2])?;
            Ok(txn.commit()?)
        });
        changed.unwrap();
    };
    change(1);
    let store = Store::open(&dir.file()).unwrap();
    let line = store.all().unwrap_err().message;
    assert!(line.contains(sample(1).id.as_str()) && line.contains("version 9") && !line.contains('\n'), "{line}");
    assert_eq!(store.get(&sample(1).id).unwrap_err().reason, Reason::DatabaseError);
    close(store);
    change(7);
    let line = Store::open(&dir.file()).err().unwrap().message;
    assert!(line.contains("schema 7") && line.contains("knows 1") && !line.contains('\n'), "{line}");
}

/// Cut anywhere, or with any page overwritten: an error that says so, or a database that can be used. Never a crash.
#[test]
fn damaged_files_are_errors() {
    let dir = Dir::new("damage");
    let store = Store::open(&dir.file()).unwrap();
    for n in 0..300 {
        block_on(
            store
                .put_create(Record { name: "n".repeat(n as usize % 9 * 1000), ..sample(n) }, once(&format!("k{n}"), n)),
        )
        .unwrap();
    }
    block_on(join_all((0..100).map(|n| store.remove(sample(n * 2).id))));
    close(store);
    let whole = std::fs::read(dir.file()).unwrap();
    let attempt = |bytes: &[u8]| {
        std::fs::write(dir.file(), bytes).unwrap();
        match Gate::open_with_map(&dir.file(), 64 << 20) {
            Ok(gate) => {
                let all = super::reader::all(&gate).map(|all| format!("{all:?}"));
                let _ = super::reader::list(&gate, &ListFilter { limit: 10, ..ListFilter::default() });
                Some(all.ok())
            }
            Err(Failure::Damaged(_) | Failure::Unknown(_) | Failure::Failed(_)) => None,
            Err(other) => panic!("{other:?}"),
        }
    };
    let all = attempt(&whole).expect("the file as it was is whole").expect("and can be read");
    assert!(attempt(&[]).is_some(), "an empty file is a new database");
    let pages = whole.len() / 4096;
    assert!(pages > 100, "{pages}");
    // A commit that took pages and gave them back leaves the file longer than what is used of it; how much depends on
    // which writes were joined to one commit. Cut there, nothing is missing.
    let mut refused = 0;
    for cut in (0..pages).map(|page| page * 4096 + 1).chain([16, 100, 152, 4095, 8191]) {
        match attempt(&whole[..cut]) {
            None => refused += 1,
            Some(read) => assert!(read.as_ref() == Some(&all), "cut at {cut} of {}", whole.len()),
        }
    }
    assert!(refused > pages / 2, "{refused} of {pages}");
    let mut refused = 0;
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    for round in 0..400 {
        let mut bytes = whole.clone();
        let mut random = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as usize
        };
        let page = random() % pages;
        // The whole page, its head, or one word of it.
        let (from, count) = [(0, 4096), (0, 24), (random() % 4088, 8)][round % 3];
        bytes[page * 4096 + from..][..count].iter_mut().for_each(|byte| *byte = random() as u8);
        refused += usize::from(attempt(&bytes).is_none());
    }
    assert!(refused > 100, "{refused} of 400");
    std::fs::write(dir.file(), b"this is no database, and long enough to be read as one ".repeat(100)).unwrap();
    let line = Store::open(&dir.file()).err().unwrap().message;
    assert!(line.contains("not a whole database") && !line.contains('\n'), "{line}");
    std::fs::remove_file(dir.file()).unwrap();
    std::os::unix::fs::symlink("elsewhere", dir.file()).unwrap();
    assert!(Store::open(&dir.file()).err().unwrap().message.contains("symbolic link"));
}
