//! One core's door to all sandboxes: any core may ask, the owner's core answers.
//!
//! Not connected to any core yet: every question is answered with `agent_not_connected`.

use crate::error::{Error, Reason};
use crate::id::SandboxId;
use crate::process::{Finished, RunCommand};
use crate::sandbox::{CreateSandbox, Force, ListFilter, Page, Sandbox};
use std::rc::Rc;

/// A location-transparent handle, one per core.
#[derive(Debug, Clone, Default)]
pub struct Shard {
    one_core_only: std::marker::PhantomData<Rc<()>>,
}

impl Shard {
    /// A handle behind which there is no core.
    pub fn unconnected() -> Shard {
        Shard::default()
    }

    /// Makes a sandbox; answers when it can run a command.
    pub async fn create(&self, _request: CreateSandbox) -> Result<Sandbox, Error> {
        Err(unconnected())
    }

    /// One sandbox.
    pub async fn get(&self, _id: SandboxId) -> Result<Sandbox, Error> {
        Err(unconnected())
    }

    /// A page of sandboxes.
    pub async fn list(&self, _filter: ListFilter) -> Result<Page, Error> {
        Err(unconnected())
    }

    /// Ends a sandbox and removes what it left.
    pub async fn delete(&self, _id: SandboxId, _force: Force) -> Result<(), Error> {
        Err(unconnected())
    }

    /// Runs a command to its end. Dropping the future cancels the command.
    pub async fn run(&self, _id: SandboxId, _command: RunCommand) -> Result<Finished, Error> {
        Err(unconnected())
    }
}

fn unconnected() -> Error {
    Error::new(Reason::AgentNotConnected, "this server has no runtime")
}
