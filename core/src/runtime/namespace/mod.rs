//! The namespace runtime as the server sees it: typed requests to the launcher, and the way back to living agents.

mod connect;
mod launcher;

pub use launcher::{Launcher, PENDING_MAX};

use super::{Ended, Files, Launched, Plan, Runtime};
use crate::error::{Error, Reason};
use crate::id::SandboxId;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use workspace_proto::launcher::{
    Adopt, Create, Destroy, Enforced, Entry, Identity, Inventory, Listed, reply::Op as Answer, request::Op,
};

/// One shard's way to the launcher.
pub struct Namespaces {
    launcher: Rc<Launcher>,
    run_dir: PathBuf,
}

impl Namespaces {
    /// `run_dir` is the directory that holds `<id>/sock` of every agent, as this process sees it.
    pub fn new(launcher: Rc<Launcher>, run_dir: &Path) -> Namespaces {
        Namespaces { launcher, run_dir: run_dir.to_owned() }
    }

    async fn create_now(&self, plan: Plan) -> Result<Launched, Error> {
        let request = Create {
            id: plan.id.as_str().to_owned(),
            block: plan.block,
            template: plan.template,
            memory_bytes: plan.memory_bytes,
            pids_max: plan.pids_max,
            cpu_quota_us: plan.cpu_quota_us,
            cpu_count: plan.cpu_count,
            tmp_bytes: plan.tmp_bytes,
        };
        let (answer, fds) = self.launcher.call(Op::Create(request)).await?;
        let Answer::Created(created) = answer else { return Err(unexpected("create")) };
        let mut fds = fds.into_iter();
        let (Some(link), Some(pidfd), None) = (fds.next(), fds.next(), fds.next()) else {
            return Err(unexpected("create: descriptors"));
        };
        Ok(Launched {
            link,
            pidfd,
            identity: created.identity.unwrap_or_default(),
            enforced: created.enforced.unwrap_or_default(),
        })
    }

    async fn inventory_now(&self) -> Result<Vec<Entry>, Error> {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let after_id = entries.last().map(|entry| entry.id.clone()).unwrap_or_default();
            let (answer, _) = self.launcher.call(Op::Inventory(Inventory { after_id: after_id.clone() })).await?;
            let Answer::Listed(listed) = answer else { return Err(unexpected("inventory")) };
            let more = listed.more;
            append(&mut entries, listed)?;
            if !more {
                return Ok(entries);
            }
        }
    }

    async fn adopt_now(&self, id: SandboxId, identity: Identity) -> Result<Launched, Error> {
        let (answer, fds) = self.launcher.call(Op::Adopt(Adopt { id: id.as_str().to_owned() })).await?;
        let Answer::Adopted(adopted) = answer else { return Err(unexpected("adopt")) };
        let Some(pidfd) = fds.into_iter().next() else { return Err(unexpected("adopt: descriptors")) };
        let now = adopted.identity.unwrap_or_default();
        if now != identity {
            return Err(Error::new(Reason::AgentNotConnected, "another process stands where the agent was"));
        }
        let link = connect::to_agent(&self.run_dir.join(id.as_str()).join("sock"), &now)?;
        Ok(Launched { link, pidfd, identity: now, enforced: Enforced::default() })
    }
}

impl Runtime for Namespaces {
    fn name(&self) -> &'static str {
        "namespace"
    }

    fn create(&self, plan: Plan) -> LocalBoxFuture<'_, Result<Launched, Error>> {
        self.create_now(plan).boxed_local()
    }

    fn destroy(&self, id: SandboxId, files: Files) -> LocalBoxFuture<'_, Result<(), Error>> {
        let request = Destroy { id: id.as_str().to_owned(), keep_files: files == Files::Keep };
        async move {
            match self.launcher.call(Op::Destroy(request)).await?.0 {
                Answer::Destroyed(_) => Ok(()),
                _ => Err(unexpected("destroy")),
            }
        }
        .boxed_local()
    }

    fn inventory(&self) -> LocalBoxFuture<'_, Result<Vec<Entry>, Error>> {
        self.inventory_now().boxed_local()
    }

    fn adopt(&self, id: SandboxId, identity: Identity) -> LocalBoxFuture<'_, Result<Launched, Error>> {
        self.adopt_now(id, identity).boxed_local()
    }

    fn ended(&self) -> LocalBoxFuture<'_, Ended> {
        self.launcher.ended().boxed_local()
    }
}

/// Takes a page in. Ids ascend over all pages, so that the walk ends whatever the pages hold.
fn append(entries: &mut Vec<Entry>, page: Listed) -> Result<(), Error> {
    let ascends = page.entries.is_sorted_by(|one, next| one.id < next.id)
        && page.entries.first().is_none_or(|first| entries.last().is_none_or(|last| first.id > last.id));
    if !ascends || (page.more && page.entries.is_empty()) {
        return Err(unexpected("inventory: order"));
    }
    entries.extend(page.entries);
    Ok(())
}

fn unexpected(what: &str) -> Error {
    Error::new(Reason::RuntimeError, "the launcher gave an answer of another kind; the server's log says more")
        .source(what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use workspace_proto::Message;

    /// Pages of any kind, one after the other: the ids that were taken ascend, and a page that says "more" brings some.
    fn pages(input: &[u8]) {
        let mut entries = Vec::new();
        for page in input.split(|byte| *byte == b'|').filter_map(|page| Listed::decode(page).ok()) {
            let before = entries.len();
            let more = page.more;
            match append(&mut entries, page) {
                Ok(()) => assert!(!more || entries.len() > before),
                Err(error) => assert_eq!((error.reason, entries.len()), (Reason::RuntimeError, before)),
            }
        }
        assert!(entries.is_sorted_by(|one, next| one.id < next.id));
    }

    #[test]
    fn an_inventory_ascends_and_so_ends() {
        let page = |ids: &[&str], more| {
            let entry = |id: &&str| Entry { id: (*id).to_owned(), ..Entry::default() };
            Listed { entries: ids.iter().map(entry).collect(), more }.encode_to_vec()
        };
        let corpus: [&[u8]; 4] = [
            &[page(&["a", "b"], true), page(&["c"], false)].join(&b'|'),
            // Went on for ever: only the first id of a page was looked at.
            &[page(&["c", "a"], true), page(&["b", "a"], true)].join(&b'|'),
            &[page(&["a"], true), page(&["a"], true)].join(&b'|'),
            &page(&[], true),
        ];
        crate::fuzz::run(pages, &corpus);
    }
}
