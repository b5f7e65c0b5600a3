//! A record as protobuf: tags and stored numbers, which never change their meaning.

use super::record::{Identity, Record};
use crate::clock;
use crate::id::SandboxId;
use crate::sandbox::{Enforced, Enforcement, Resources, State};
use prost::Message;
use std::collections::BTreeMap;

#[derive(Clone, PartialEq, Message)]
pub(super) struct Stored {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    template: String,
    /// As [`STATES`] counts from 1.
    #[prost(uint32, tag = "3")]
    state: u32,
    #[prost(btree_map = "string, string", tag = "4")]
    env: BTreeMap<String, String>,
    #[prost(btree_map = "string, string", tag = "5")]
    metadata: BTreeMap<String, String>,
    #[prost(uint64, tag = "6")]
    created_at_us: u64,
    #[prost(uint64, tag = "7")]
    updated_at_us: u64,
    #[prost(uint64, tag = "8")]
    timeout: u64,
    #[prost(uint64, optional, tag = "9")]
    expires_at_us: Option<u64>,
    #[prost(uint64, tag = "10")]
    idle_timeout: u64,
    #[prost(string, optional, tag = "11")]
    error_message: Option<String>,
    #[prost(string, tag = "12")]
    runtime: String,
    #[prost(string, optional, tag = "13")]
    workspace_id: Option<String>,
    #[prost(message, optional, tag = "14")]
    resources: Option<StoredResources>,
    #[prost(string, tag = "15")]
    network: String,
    #[prost(uint32, tag = "16")]
    block: u32,
    #[prost(message, optional, tag = "17")]
    identity: Option<StoredIdentity>,
    #[prost(bool, tag = "18")]
    dying: bool,
    #[prost(string, optional, tag = "19")]
    idempotency_key: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredResources {
    #[prost(uint64, tag = "1")]
    memory_bytes: u64,
    #[prost(double, optional, tag = "2")]
    cpus: Option<f64>,
    #[prost(uint64, tag = "3")]
    pids: u64,
    #[prost(uint64, tag = "4")]
    disk_bytes: u64,
    /// As [`ENFORCEMENTS`] counts from 1.
    #[prost(uint32, tag = "5")]
    memory: u32,
    #[prost(uint32, tag = "6")]
    cpu: u32,
    #[prost(uint32, tag = "7")]
    disk: u32,
    #[prost(uint32, tag = "8")]
    process: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredIdentity {
    #[prost(uint32, tag = "1")]
    pid: u32,
    #[prost(uint64, tag = "2")]
    start_time_ticks: u64,
    #[prost(uint64, tag = "3")]
    pidfd_inode: u64,
    #[prost(string, tag = "4")]
    boot_id: String,
}

/// In the order of their stored numbers, which never changes.
pub(super) const STATES: [State; 6] =
    [State::Starting, State::Running, State::Paused, State::Stopping, State::Stopped, State::Error];

/// In the order of their stored numbers, which never changes.
const ENFORCEMENTS: [Enforcement; 3] = [Enforcement::Hard, Enforcement::Soft, Enforcement::None];

/// 0 is what an absent field reads as, and means nothing.
fn number_of<T: PartialEq>(all: &[T], value: &T) -> u32 {
    all.iter().position(|v| v == value).map_or(0, |at| at as u32 + 1)
}

fn of_number<T: Copy>(all: &[T], number: u32) -> Option<T> {
    all.get((number as usize).checked_sub(1)?).copied()
}

impl From<&Record> for Stored {
    fn from(r: &Record) -> Stored {
        let enforced = r.resources.enforced;
        let strictness = |e: Enforcement| number_of(&ENFORCEMENTS, &e);
        Stored {
            name: r.name.clone(),
            template: r.template.clone(),
            state: number_of(&STATES, &r.state),
            env: r.env.clone(),
            metadata: r.metadata.clone(),
            created_at_us: r.created_at_us,
            updated_at_us: r.updated_at_us,
            timeout: r.timeout,
            expires_at_us: r.expires_at_us,
            idle_timeout: r.idle_timeout,
            error_message: r.error_message.clone(),
            runtime: r.runtime.clone(),
            workspace_id: r.workspace_id.clone(),
            resources: Some(StoredResources {
                memory_bytes: r.resources.memory_bytes,
                cpus: r.resources.cpus,
                pids: r.resources.pids,
                disk_bytes: r.resources.disk_bytes,
                memory: strictness(enforced.memory),
                cpu: strictness(enforced.cpu),
                disk: strictness(enforced.disk),
                process: strictness(enforced.pids),
            }),
            network: r.network.clone(),
            block: r.block,
            identity: r.identity.as_ref().map(|i| StoredIdentity {
                pid: i.pid,
                start_time_ticks: i.start_time_ticks,
                pidfd_inode: i.pidfd_inode,
                boot_id: i.boot_id.clone(),
            }),
            dying: r.dying,
            idempotency_key: r.idempotency_key.clone(),
        }
    }
}

impl Stored {
    /// The record, if every rule holds; else what is wrong with it.
    pub(super) fn into_record(self, id: SandboxId) -> Result<Record, &'static str> {
        let resources = self.resources.ok_or("has no resources")?;
        let strictness = |n: u32| of_number(&ENFORCEMENTS, n).ok_or("has an unknown strictness of a limit");
        if resources.cpus.is_some_and(|c| !c.is_finite() || c <= 0.0) {
            return Err("has a CPU quota that is no number");
        }
        if self.created_at_us > clock::WALL_US_MAX || self.updated_at_us > clock::WALL_US_MAX {
            return Err("has a time beyond the year 9999");
        }
        Ok(Record {
            id,
            name: self.name,
            template: self.template,
            state: of_number(&STATES, self.state).ok_or("has an unknown state")?,
            env: self.env,
            metadata: self.metadata,
            created_at_us: self.created_at_us,
            updated_at_us: self.updated_at_us,
            timeout: self.timeout,
            expires_at_us: self.expires_at_us,
            idle_timeout: self.idle_timeout,
            error_message: self.error_message,
            runtime: self.runtime,
            workspace_id: self.workspace_id,
            resources: Resources {
                memory_bytes: resources.memory_bytes,
                cpus: resources.cpus,
                pids: resources.pids,
                disk_bytes: resources.disk_bytes,
                enforced: Enforced {
                    memory: strictness(resources.memory)?,
                    cpu: strictness(resources.cpu)?,
                    disk: strictness(resources.disk)?,
                    pids: strictness(resources.process)?,
                },
            },
            network: self.network,
            block: self.block,
            identity: self.identity.map(|i| Identity {
                pid: i.pid,
                start_time_ticks: i.start_time_ticks,
                pidfd_inode: i.pidfd_inode,
                boot_id: i.boot_id,
            }),
            dying: self.dying,
            idempotency_key: self.idempotency_key,
        })
    }
}
