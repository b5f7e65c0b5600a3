#![allow(unsafe_code)]
//! The two calls of LMDB that the compiler cannot check: opening the map, and resizing it.
//!
//! lmdb.h, `mdb_env_open` and `mdb_env_set_mapsize`; heed 0.23.

use heed::types::Bytes;
use heed::{CommitOrAbort, Database, DatabaseOpener, Env, EnvFlags, EnvOpenOptions, RoTxn, RwTxn, WithoutTls};
use std::mem::transmute;
use std::path::Path;

/// A database of bytes by bytes.
pub(super) type Table = Database<'static, Bytes, Bytes>;

/// An open environment with our databases.
pub(super) struct Lmdb {
    // Before `env`, and never given out by value: they must not outlive it.
    sandbox: Table,
    sandbox_order: Table,
    idempotency: Table,
    idempotency_order: Table,
    meta: Table,
    env: Env<WithoutTls>,
}

/// Read transactions at one time: one for each shard and helper thread is enough, this is room.
const READERS_MAX: u32 = 256;
const DATABASES_MAX: u32 = 16;

impl Lmdb {
    /// Opens or makes the file. The caller has checked that the file, if it is there, is a whole LMDB file.
    pub(super) fn open(path: &Path, map_bytes: usize) -> heed::Result<Lmdb> {
        let mut options = EnvOpenOptions::new().read_txn_without_tls();
        options.map_size(map_bytes).max_readers(READERS_MAX).max_dbs(DATABASES_MAX);
        // SAFETY: NO_SUB_DIR says where the file lies, nothing about locking or durability.
        unsafe { options.flags(EnvFlags::NO_SUB_DIR) };
        // SAFETY: the map must not change under us. The file lies in the data directory, mode 0700, that one server
        // holds by a lock; in this process nobody writes it but LMDB, which writes by pwrite (no WRITE_MAP), and heed
        // refuses to open one file twice. Locks are on (no NO_LOCK). The environment is not used after a fork.
        let env = unsafe { options.open(path)? };
        let txn = env.write_txn()?;
        let tables = env
            .create_databases_and_commit(txn, |opener, txn| {
                let tables = (
                    table(opener, txn, "sandbox")?,
                    table(opener, txn, "sandbox_order")?,
                    table(opener, txn, "idempotency")?,
                    table(opener, txn, "idempotency_order")?,
                    table(opener, txn, "meta")?,
                );
                heed::Result::Ok(CommitOrAbort::<_, ()>::Commit(tables))
            })?
            .unwrap_commit();
        let (sandbox, sandbox_order, idempotency, idempotency_order, meta) = tables;
        // SAFETY: a database is a number that means something as long as its environment is open. `env` lives in the
        // same struct, and the tables leave it by reference to `self` only.
        let [sandbox, sandbox_order, idempotency, idempotency_order, meta] = unsafe {
            transmute::<[Database<'_, Bytes, Bytes>; 5], [Table; 5]>([
                sandbox,
                sandbox_order,
                idempotency,
                idempotency_order,
                meta,
            ])
        };
        Ok(Lmdb { sandbox, sandbox_order, idempotency, idempotency_order, meta, env })
    }

    /// Gives the map another size. On failure the map is gone and the environment must be dropped at once.
    pub(super) fn resize(&mut self, map_bytes: usize) -> heed::Result<()> {
        // SAFETY: no transaction may be open in this process. Each one borrows `self.env` by `&self`, and this is
        // `&mut self`, so the compiler has seen that there is none.
        unsafe { self.env.resize(map_bytes) }
    }

    pub(super) fn map_bytes(&self) -> usize {
        self.env.info().map_size
    }

    pub(super) fn used_bytes(&self) -> usize {
        (self.env.info().last_page_number + 1) * self.env.unnamed_database_stat().page_size as usize
    }

    pub(super) fn clear_stale_readers(&self) -> heed::Result<usize> {
        self.env.clear_stale_readers()
    }

    pub(super) fn read(&self) -> heed::Result<RoTxn<'_, WithoutTls>> {
        self.env.read_txn()
    }

    pub(super) fn write(&self) -> heed::Result<RwTxn<'_>> {
        self.env.write_txn()
    }

    /// id → record.
    pub(super) fn sandbox(&self) -> &Database<'_, Bytes, Bytes> {
        &self.sandbox
    }

    /// created_at_us, id → nothing: the order of lists.
    pub(super) fn sandbox_order(&self) -> &Database<'_, Bytes, Bytes> {
        &self.sandbox_order
    }

    /// key → digest, id, created_at_us.
    pub(super) fn idempotency(&self) -> &Database<'_, Bytes, Bytes> {
        &self.idempotency
    }

    /// created_at_us, key → nothing: what expires first.
    pub(super) fn idempotency_order(&self) -> &Database<'_, Bytes, Bytes> {
        &self.idempotency_order
    }

    /// name → value.
    pub(super) fn meta(&self) -> &Database<'_, Bytes, Bytes> {
        &self.meta
    }
}

fn table<'e>(
    opener: &DatabaseOpener<'e, WithoutTls>,
    txn: &mut RwTxn<'e>,
    name: &str,
) -> heed::Result<Database<'e, Bytes, Bytes>> {
    opener.create_database(txn, Some(name))
}
