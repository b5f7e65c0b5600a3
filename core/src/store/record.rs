//! What is kept of a sandbox, and how it is written: one version byte, then protobuf.
//!
//! Fields are only ever added, with a new tag; what an old server could not read rightly gets a new version byte.
//! Everything that is read is checked: a record that breaks a rule is an error that names the sandbox, never a guess.

use super::stored::Stored;
use crate::clock;
use crate::error::{Error, Reason};
use crate::id::SandboxId;
use crate::sandbox::{Resources, Sandbox, State};
use prost::Message;
use std::collections::BTreeMap;
use std::fmt;

/// The first byte of every record this server writes.
pub const RECORD_VERSION: u8 = 1;

/// Largest encoded record. A request's body is at most 1 MiB, so this is room.
pub const RECORD_BYTES_MAX: usize = 4 << 20;

/// All that is kept of a sandbox.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Whose record it is.
    pub id: SandboxId,
    /// As in [`Sandbox`].
    pub name: String,
    /// As asked.
    pub template: String,
    /// Where it is in its life.
    pub state: State,
    /// Environment of every command.
    pub env: BTreeMap<String, String>,
    /// The caller's own marks.
    pub metadata: BTreeMap<String, String>,
    /// Wall time in µs. Never changes: the order of lists.
    pub created_at_us: u64,
    /// Wall time in µs.
    pub updated_at_us: u64,
    /// Seconds of life as asked, 0 = none.
    pub timeout: u64,
    /// Wall time in µs at which it is deleted.
    pub expires_at_us: Option<u64>,
    /// Idle seconds after which it may be stopped, 0 = none.
    pub idle_timeout: u64,
    /// Why it is in `error`.
    pub error_message: Option<String>,
    /// `namespace` or `docker`.
    pub runtime: String,
    /// The workspace it uses, where it is not its own.
    pub workspace_id: Option<String>,
    /// Its limits, and how strictly they hold.
    pub resources: Resources,
    /// `none`.
    pub network: String,
    /// Its block of host ids; 0 where all share one range.
    pub block: u32,
    /// Who its agent is; `None` before it has one, and where it has none any more.
    pub identity: Option<Identity>,
    /// It is being deleted: whatever else happens, it does not come back.
    pub dying: bool,
    /// The Idempotency-Key that made it, as the store knows it.
    pub idempotency_key: Option<String>,
}

/// Who an agent is, so that nobody can stand in for it after a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Host pid.
    pub pid: u32,
    /// /proc/PID/stat field 22.
    pub start_time_ticks: u64,
    /// Unique in one boot (kernel 6.9); 0 where unknown.
    pub pidfd_inode: u64,
    /// /proc/sys/kernel/random/boot_id: with another one, no process of before is left.
    pub boot_id: String,
}

impl Record {
    /// The public shape. The address of NFS is the server's, not the sandbox's.
    pub fn sandbox(&self, nfs_host: &str, nfs_port: u16) -> Sandbox {
        let v6 = nfs_host.contains(':') && !nfs_host.starts_with('[');
        let (open, close) = if v6 { ("[", "]") } else { ("", "") };
        Sandbox {
            id: self.id,
            name: self.name.clone(),
            template: self.template.clone(),
            state: if self.dying { State::Stopping } else { self.state },
            env: self.env.clone(),
            metadata: self.metadata.clone(),
            nfs_url: format!("nfs://{open}{nfs_host}{close}:{nfs_port}/{}", self.id),
            created_at: clock::rfc3339(self.created_at_us),
            updated_at: clock::rfc3339(self.updated_at_us),
            timeout: self.timeout,
            error_message: self.error_message.clone(),
            runtime: self.runtime.clone(),
            workspace_id: self.workspace_id.clone(),
            resources: self.resources,
            network: self.network.clone(),
            expires_at: self.expires_at_us.map(clock::rfc3339),
        }
    }

    /// Version byte and protobuf.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        let stored = Stored::from(self);
        let mut bytes = Vec::with_capacity(1 + stored.encoded_len());
        bytes.push(RECORD_VERSION);
        // Writing to a Vec grows it.
        stored.encode_raw(&mut bytes);
        if bytes.len() > RECORD_BYTES_MAX {
            return Err(Error::new(Reason::InvalidParameter, "The sandbox's environment and metadata are too large.")
                .details(format!("at most {RECORD_BYTES_MAX} bytes in all")));
        }
        Ok(bytes)
    }

    /// Reads what [`Record::encode`] wrote, for the sandbox whose key it lies under.
    pub fn decode(id: SandboxId, bytes: &[u8]) -> Result<Record, BadRecord> {
        let bad = |why: &str| BadRecord { id, why: why.to_string() };
        let (version, body) = bytes.split_first().ok_or_else(|| bad("is empty"))?;
        if *version != RECORD_VERSION {
            return Err(bad(&format!("has version {version}, this server knows {RECORD_VERSION}")));
        }
        let stored = Stored::decode(body).map_err(|e| bad(&format!("cannot be read: {e}")))?;
        stored.into_record(id).map_err(bad)
    }
}

/// A record that this server cannot read. Its `Display` is one line for the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRecord {
    id: SandboxId,
    why: String,
}

impl fmt::Display for BadRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the record of sandbox {} {}", self.id, self.why)
    }
}

impl From<BadRecord> for Error {
    fn from(bad: BadRecord) -> Error {
        Error::new(Reason::DatabaseError, "A record in the database cannot be read.").source(bad)
    }
}

/// Any bytes are a record or an error; for the fuzz target, which also holds that what is read can be written back.
pub fn fuzz_record(bytes: &[u8]) {
    let id = SandboxId::from_random([0; 20]);
    if let Ok(record) = Record::decode(id, bytes) {
        let written = record.encode().unwrap_or_default();
        assert!(written.is_empty() || Record::decode(id, &written).as_ref() == Ok(&record), "{record:?}");
        let _ = record.sandbox("127.0.0.1", 2049);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::stored::STATES;
    use super::*;
    use crate::sandbox::{Enforced, Enforcement};

    /// A record with every field set, made from a number.
    pub(crate) fn sample(n: u64) -> Record {
        let mut random = [0; 20];
        random[12..].copy_from_slice(&n.to_be_bytes());
        let soft = Enforcement::Soft;
        Record {
            id: SandboxId::from_random(random),
            name: format!("box {n}"),
            template: "workspace-base:latest".into(),
            state: State::Running,
            env: [("A".to_string(), "ä".to_string())].into(),
            metadata: [("n".to_string(), n.to_string()), ("even".to_string(), n.is_multiple_of(2).to_string())].into(),
            created_at_us: 1_795_482_123_000_000 + n,
            updated_at_us: 1_795_482_123_000_001 + n,
            timeout: 60,
            expires_at_us: Some(1_795_482_183_000_000 + n),
            idle_timeout: 7,
            error_message: Some("why".into()),
            runtime: "namespace".into(),
            workspace_id: Some("w".into()),
            resources: Resources {
                memory_bytes: 1 << 30,
                cpus: Some(0.5),
                pids: 2048,
                disk_bytes: 4 << 30,
                enforced: Enforced { memory: Enforcement::Hard, cpu: soft, disk: Enforcement::None, pids: soft },
            },
            network: "none".into(),
            block: 8,
            identity: Some(Identity { pid: 42, start_time_ticks: 43, pidfd_inode: 44, boot_id: "b".into() }),
            dying: false,
            idempotency_key: Some("k".into()),
        }
    }

    #[test]
    fn every_field_comes_back() {
        for state in STATES {
            for dying in [false, true] {
                let record = Record { state, dying, ..sample(1) };
                assert_eq!(Record::decode(record.id, &record.encode().unwrap()).unwrap(), record);
            }
        }
        let bare = Record {
            env: BTreeMap::new(),
            metadata: BTreeMap::new(),
            expires_at_us: None,
            error_message: None,
            workspace_id: None,
            identity: None,
            idempotency_key: None,
            ..sample(2)
        };
        assert_eq!(Record::decode(bare.id, &bare.encode().unwrap()).unwrap(), bare);
    }

    #[test]
    fn another_version_is_refused_in_one_line() {
        let record = sample(3);
        let mut bytes = record.encode().unwrap();
        bytes[0] = 2;
        let line = Record::decode(record.id, &bytes).unwrap_err().to_string();
        assert!(line.contains(record.id.as_str()) && line.contains("version 2") && line.contains("knows 1"), "{line}");
    }

    #[test]
    fn cut_and_changed_records_are_errors_or_records() {
        let bytes = sample(4).encode().unwrap();
        for cut in 0..bytes.len() {
            fuzz_record(&bytes[..cut]);
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[cut] ^= 1 << bit;
                fuzz_record(&changed);
            }
        }
        assert!(Record::decode(sample(4).id, &[]).is_err());
    }

    #[test]
    fn too_large_is_refused_before_it_is_written() {
        let record = Record { name: "x".repeat(RECORD_BYTES_MAX), ..sample(5) };
        assert_eq!(record.encode().unwrap_err().reason, Reason::InvalidParameter);
    }

    #[test]
    fn the_public_shape() {
        let shown = sample(6).sandbox("::1", 2049);
        assert_eq!(shown.nfs_url, format!("nfs://[::1]:2049/{}", sample(6).id));
        assert_eq!(shown.created_at, "2026-11-24T01:02:03.000006Z");
        assert_eq!(Record { dying: true, ..sample(6) }.sandbox("h", 1).state, State::Stopping);
    }
}
