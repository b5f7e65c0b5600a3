//! When is a resource another one? What the operation that watches a directory tells, as far as it is about the resource.
//!
//! A file is watched in its directory, so that it need not be there yet, and one that takes its place is seen; a
//! directory by what it holds. Where a watch ends, because its directory has gone, or a name has become a directory's,
//! another one is begun: trees are replaced all the time, and whoever follows a name wants to know what it is then.
//! Whoever changes it is seen: a command, HTTP, NFS. A link is watched itself, not what it leads to, unless that is a
//! directory.

use super::call::invoke;
use super::engine::Engine;
use super::resources::{asked, operation};
use super::uri::{Place, ROOT};
use crate::http::slot::Slot;
use crate::operation::{Asked, Events, Reply};
use serde_json::{Value, json};
use std::rc::Rc;
use std::time::Duration;
use workspace_core::files::name;
use workspace_core::{Error, Reason};

/// How often a resource whose directory has gone is looked for, and how long from one time to the next.
const TRIES_MAX: usize = 10;
const TRY_PAUSE: Duration = Duration::from_millis(500);

/// A resource that is followed. Dropping it ends that.
pub(super) struct Watching {
    engine: Rc<Engine>,
    place: Place,
    watch: Option<Watch>,
}

/// What has become of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Became {
    /// Another one, perhaps.
    Changed,
    /// What becomes of it can't be told any more: its directory, or its sandbox, is gone. That was told as a change.
    Lost,
}

impl Watching {
    /// Begins to follow; whatever happens from then on is told.
    pub(super) async fn begin(engine: &Rc<Engine>, place: Place) -> Result<Watching, Error> {
        let watch = Some(Watch::begin(engine, &place).await?);
        Ok(Watching { engine: engine.clone(), place, watch })
    }

    /// Waits until something has happened to it.
    pub(super) async fn next(&mut self) -> Became {
        if let Some(watch) = &mut self.watch {
            if watch.next().await == Told::Last {
                self.watch = None;
            }
            return Became::Changed;
        }
        for _ in 0..TRIES_MAX {
            match Watch::begin(&self.engine, &self.place).await {
                Ok(watch) => {
                    // What has happened meanwhile was not seen.
                    self.watch = Some(watch);
                    return Became::Changed;
                }
                Err(error) if may_pass(&error) => monoio::time::sleep(TRY_PAUSE).await,
                Err(_) => break,
            }
        }
        Became::Lost
    }
}

fn may_pass(error: &Error) -> bool {
    matches!(error.reason, Reason::FileNotFound | Reason::NotADirectory | Reason::RateLimited | Reason::Overloaded)
}

/// One watch of a directory.
struct Watch {
    events: Box<dyn Events>,
    page: Vec<u8>,
    /// In the directory; `None`: it is the directory.
    name: Option<String>,
    _slot: Slot,
}

/// What a watch has told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Change,
    /// It has ended, or is not the right one any more.
    Last,
}

impl Watch {
    async fn begin(engine: &Rc<Engine>, place: &Place) -> Result<Watch, Error> {
        let watch = operation(engine, "file_watch")?;
        let slot = Slot::take(engine.running(), watch, Some(place.sandbox))?;
        let (directory, name) = match is_directory(engine, place).await? {
            true => (place.path.as_str(), None),
            false => split(&place.path),
        };
        let name = name.map(|text| name::show(&name::read(text)));
        let input = json!({"path": directory});
        let reply = invoke(engine.shard().clone(), watch, Some(place.sandbox), input, Asked::default()).await?;
        match reply {
            Reply::Events(events) => Ok(Watch { events, page: Vec::new(), name, _slot: slot }),
            _ => Err(Error::new(Reason::Internal, "the watch tells nothing")),
        }
    }

    /// Waits until it tells of the resource. Dropping the future loses nothing.
    async fn next(&mut self) -> Told {
        loop {
            let goes_on = self.events.write_next(&mut self.page).await;
            let page = std::mem::take(&mut self.page);
            let events = page.split(|byte| *byte == b'\n').filter_map(|line| line.strip_prefix(b"data: "));
            let told: Vec<Value> = events.filter_map(|event| serde_json::from_slice(event).ok()).collect();
            if !goes_on || told.iter().any(|event| event["type"] == "error") {
                return Told::Last;
            }
            let name = self.name.as_deref();
            let mut ours = told.iter().filter(|event| concerns(event, name)).peekable();
            if ours.peek().is_some() {
                let is_another = name.is_some() && ours.any(|event| event["is_dir"] == true);
                return if is_another { Told::Last } else { Told::Change };
            }
        }
    }
}

async fn is_directory(engine: &Rc<Engine>, place: &Place) -> Result<bool, Error> {
    let info = operation(engine, "file_info")?;
    let kind = async |path: &str| match asked(engine, info, Some(place.sandbox), json!({"path": path})).await {
        Ok(info) => Ok(info["type"].as_str().unwrap_or_default().to_owned()),
        Err(error) if error.reason == Reason::FileNotFound => Ok(String::new()),
        Err(error) => Err(error),
    };
    match kind(&place.path).await?.as_str() {
        "directory" => Ok(true),
        "symlink" => Ok(kind(&format!("{}/", place.path)).await.is_ok_and(|kind| kind == "directory")),
        _ => Ok(false),
    }
}

/// A path as a directory and a name in it.
fn split(path: &str) -> (&str, Option<&str>) {
    match path.rsplit_once('/') {
        Some(("", name)) => ("/", Some(name)),
        Some((directory, name)) => (directory, Some(name)),
        None => (ROOT, Some(path)),
    }
}

/// The event is about what has this name in the directory, or about the directory.
fn concerns(event: &Value, name: Option<&str>) -> bool {
    match event["type"].as_str() {
        Some("overflow") => true,
        Some("created" | "modified" | "removed" | "moved") => name.is_none_or(|name| {
            let paths = ["path", "from", "to"].map(|field| event[field].as_str());
            paths.into_iter().flatten().any(|path| path.rsplit('/').next() == Some(name))
        }),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_the_name_concerns_a_file() {
        assert_eq!(split("a"), ("/workspace", Some("a")));
        assert_eq!((split("a/b"), split("/a")), (("a", Some("b")), ("/", Some("a"))));
        let made = json!({"type": "created", "path": "/workspace/a", "is_dir": false});
        let moved = json!({"type": "moved", "from": "/workspace/b", "to": "/workspace/a", "is_dir": false});
        for event in [&made, &moved] {
            assert!(concerns(event, Some("a")) && concerns(event, None) && !concerns(event, Some("workspace")));
        }
        assert!(concerns(&moved, Some("b")) && !concerns(&made, Some("b")));
        assert!(concerns(&json!({"type": "overflow"}), Some("a")));
        assert!(!concerns(&json!({"type": "watching", "path": "/workspace/a"}), None));
    }
}
