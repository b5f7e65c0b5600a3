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
    Adopt, Create, Destroy, Enforced, Entry, Identity, Inventory, reply::Op as Answer, request::Op,
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
            let ascends = listed.entries.first().is_none_or(|first| first.id > after_id);
            if !ascends || (listed.more && listed.entries.is_empty()) {
                return Err(unexpected("inventory: order"));
            }
            entries.extend(listed.entries);
            if !listed.more {
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

fn unexpected(what: &str) -> Error {
    Error::new(Reason::RuntimeError, "the launcher gave an answer of another kind; the server's log says more")
        .source(what)
}
