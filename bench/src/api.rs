//! What does the bench ask of a sandbox server, and who removes the sandboxes?
//!
//! A herd remembers every sandbox that it made and deletes those that are left when it is dropped, also one whose answer was lost: each carries
//! the herd's mark in its metadata.

use crate::client::{Answer, Connection};
use crate::failure::Failure;
use crate::server::Target;
use crate::stop;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// How many pages of forgotten sandboxes are looked through.
const PAGES_MAX: usize = 100;
/// How many characters of a refusal are shown.
const REFUSAL_CHARS_MAX: usize = 300;

/// The sandboxes of one question.
pub(crate) struct Herd<'a> {
    target: &'a Target,
    mark: String,
    alive: Mutex<BTreeSet<String>>,
}

impl<'a> Herd<'a> {
    /// An empty one.
    pub(crate) fn new(target: &'a Target) -> Herd<'a> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        Herd { target, mark: format!("{}-{now}", std::process::id()), alive: Mutex::default() }
    }

    /// A connection of one's own.
    pub(crate) fn connect(&self) -> Result<Connection, Failure> {
        self.target.connect()
    }

    /// Makes a sandbox; it is running when this returns.
    pub(crate) fn create(&self, connection: &mut Connection) -> Result<String, Failure> {
        let body = json!({ "metadata": { "bench": self.mark } }).to_string();
        let answer = connection.ask("POST", "/api/v1/sandboxes", &body)?;
        let sandbox = expect(&answer, 201, "create")?;
        let id = sandbox["id"].as_str().ok_or_else(|| Failure::new("create: an answer without an id"))?.to_owned();
        self.lock().insert(id.clone());
        match sandbox["state"].as_str() {
            Some("running") => Ok(id),
            state => Err(Failure::new(format!("create: state {state:?} instead of running"))),
        }
    }

    /// Deletes one.
    pub(crate) fn delete(&self, connection: &mut Connection, id: &str) -> Result<(), Failure> {
        let answer = connection.ask("DELETE", &format!("{}?force=true", path(id)), "")?;
        expect(&answer, 200, "delete")?;
        self.lock().remove(id);
        Ok(())
    }

    /// Deletes all, several at once; how many could not be deleted.
    pub(crate) fn delete_all(&self, workers: u64) -> usize {
        let ids: Vec<String> = self.lock().iter().cloned().collect();
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..workers.min(ids.len() as u64) {
                scope.spawn(|| {
                    let Ok(mut connection) = self.connect() else { return };
                    while let Some(id) = ids.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if self.delete(&mut connection, id).is_err() {
                            // A refusal leaves the connection usable, a broken one must be replaced.
                            let Ok(fresh) = self.connect() else { return };
                            connection = fresh;
                        }
                    }
                });
            }
        });
        self.lock().len()
    }

    /// How many are alive.
    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.alive.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Takes in those whose create was answered to nobody.
    fn find_lost(&self) -> Result<(), Failure> {
        let mut connection = self.connect()?;
        let filter = format!("/api/v1/sandboxes?metadata.bench={}&limit=1000", self.mark);
        let mut cursor = String::new();
        for _ in 0..PAGES_MAX {
            let answer = connection.ask("GET", &format!("{filter}{cursor}"), "")?;
            let page = expect(&answer, 200, "list")?;
            let found = page["sandboxes"].as_array().map(Vec::as_slice).unwrap_or_default();
            self.lock().extend(found.iter().filter_map(|sandbox| Some(sandbox["id"].as_str()?.to_owned())));
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        Ok(())
    }
}

impl Drop for Herd<'_> {
    fn drop(&mut self) {
        if let Err(failure) = self.find_lost() {
            eprintln!("cannot look for forgotten sandboxes: {failure}");
        }
        let left = if self.count() == 0 { 0 } else { self.delete_all(8) };
        if left > 0 {
            eprintln!("{left} sandboxes of this bench could not be deleted (metadata.bench={})", self.mark);
        }
    }
}

/// The path of a sandbox.
pub(crate) fn path(id: &str) -> String {
    format!("/api/v1/sandboxes/{id}")
}

/// Where a sandbox's files are mounted from: `nfs://HOST:PORT/ID`.
pub(crate) fn nfs_url(connection: &mut Connection, id: &str) -> Result<String, Failure> {
    let sandbox = expect(&connection.ask("GET", &path(id), "")?, 200, "get")?;
    let url = sandbox["nfs_url"].as_str().ok_or_else(|| Failure::new("get: an answer without nfs_url"))?;
    Ok(url.to_owned())
}

/// Runs `true` in a sandbox; an error where it did not end with 0.
pub(crate) fn run_true(connection: &mut Connection, id: &str) -> Result<(), Failure> {
    let answer = connection.ask("POST", &format!("{}/process/run", path(id)), r#"{"command":"true"}"#)?;
    let finished = expect(&answer, 200, "run")?;
    match finished["exit_code"].as_i64() {
        Some(0) => Ok(()),
        _ => Err(Failure::new(format!("run: {}", text(&answer)))),
    }
}

/// Does `each` for 0..count on some connections at once until one fails or a signal comes; the first failure.
pub(crate) fn together(
    herd: &Herd<'_>,
    workers: u64,
    count: u64,
    each: impl Fn(&mut Connection) -> Result<(), Failure> + Sync,
) -> Result<(), Failure> {
    let next = AtomicUsize::new(0);
    let failed: Mutex<Option<Failure>> = Mutex::default();
    let note = |failure| {
        next.store(count as usize, Ordering::Relaxed);
        failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get_or_insert(failure);
    };
    std::thread::scope(|scope| {
        for _ in 0..workers.min(count) {
            scope.spawn(|| {
                let mut connection = match herd.connect() {
                    Ok(connection) => connection,
                    Err(failure) => return note(failure),
                };
                while (next.fetch_add(1, Ordering::Relaxed) as u64) < count && !stop::requested() {
                    if let Err(failure) = each(&mut connection) {
                        return note(failure);
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).map_or(Ok(()), Err)
}

fn expect(answer: &Answer, status: u16, what: &str) -> Result<Value, Failure> {
    if answer.status != status {
        return Err(Failure::new(format!("{what}: {} {}", answer.status, text(answer))));
    }
    serde_json::from_slice(&answer.body).map_err(|error| Failure::new(format!("{what}: {error}: {}", text(answer))))
}

fn text(answer: &Answer) -> String {
    String::from_utf8_lossy(&answer.body).chars().take(REFUSAL_CHARS_MAX).collect()
}
