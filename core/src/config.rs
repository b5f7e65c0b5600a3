//! The environment as configuration: every variable read, checked, or refused by name.
//!
//! [`variables::VARIABLES`] declares them once; `--help`, the reference and the messages of the checks derive from it.
//! A value that does not parse stops the start with one line: variable, value, what is allowed. Empty means unset.
//! Does not: touch the file system, resolve names, read the process's environment by itself.

mod values;
pub mod variables;

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
pub use values::{ApiKeys, Cidr, McpMode, McpProfile, NfsClients, NfsMode};
use variables::{NEVER_READ, Reader, shown};

/// What the server was told, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where HTTP listens. Loopback, unless keys or `allow_anonymous` stand for it.
    pub http_host: IpAddr,
    /// 0: the kernel chooses.
    pub http_port: u16,
    /// Where agents dial in that no Unix socket reaches.
    pub grpc_host: IpAddr,
    /// As `grpc_host`.
    pub grpc_port: u16,
    /// Holds everything the server keeps; relative to the working directory, or absolute.
    pub data_dir: PathBuf,
    /// The database's file: one name inside `data_dir`. The server process has the data directory at a path of its
    /// own and sees nothing else, therefore the database cannot lie elsewhere.
    pub database_file: PathBuf,
    /// How many sandboxes are made ahead; 0: none.
    pub pool_blanks: u32,
    /// Of the Docker engine; for later.
    pub docker_host: String,
    /// For later.
    pub docker_network: String,
    /// The template of a create that names none.
    pub base_image: String,
    /// Whether NFS is served.
    pub nfs_mode: NfsMode,
    /// Of NFS and MOUNT; 0: the kernel chooses.
    pub nfs_port: u16,
    /// Somebody chose the port: a start without it would not be what was asked for.
    pub nfs_port_was_set: bool,
    /// The host in a sandbox's `nfs_url`, and where NFS listens: an address there alone, a name everywhere.
    pub nfs_host: String,
    /// Whether they see setuid bits of root, and may make devices and give files to ids that no sandbox has.
    pub nfs_clients: NfsClients,
    /// Who may mount.
    pub nfs_allow: Vec<Cidr>,
    /// How MCP is served.
    pub mcp_mode: McpMode,
    /// Path prefix of MCP over HTTP, without a slash at its end.
    pub mcp_path: String,
    /// Tool set of MCP over stdio.
    pub mcp_profile: McpProfile,
    /// Idle time after which a sandbox may be put to rest; zero: never.
    pub max_idle_time: Duration,
    /// How long an agent may take to answer.
    pub agent_timeout: Duration,
    /// Empty: requests need no key.
    pub api_keys: ApiKeys,
    /// Without keys, other hosts may call too.
    pub allow_anonymous: bool,
    /// Origins of browsers' pages that may call, as `scheme://host[:port]`, lowercase.
    pub allowed_origins: Vec<String>,
    /// Values of `Host` that are accepted beside loopback names, lowercase, with or without port.
    pub allowed_hosts: Vec<String>,
    /// Shards, one thread each; `None`: as many as the machine runs in parallel, at most [`CORES_MAX`].
    pub cores: Option<usize>,
    /// What is logged: `level` or `target=level`, with commas.
    pub log: String,
    /// One line each, for the log: variables that are set and mean nothing.
    pub warnings: Vec<String>,
}

/// Most shards a server may have. The launcher has one socket for each.
pub const CORES_MAX: usize = 64;

/// Made ahead where one client is to be served, which has one sandbox in most cases.
const STDIO_POOL_BLANKS: u32 = 2;

/// Names in the data directory that are ours and cannot be the database.
const RESERVED: [&str; 8] =
    ["run", "sandboxes", "trash", "http.address", "nfs.address", "lock", "mcp.sock", "stdio.log"];

impl Config {
    /// Reads and checks an environment. The error is one line for the user.
    pub fn from_env(vars: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Config, String> {
        let env = Reader::new(vars);
        let api_keys = env.value("WORKSPACE_API_KEYS", ApiKeys::parse)?;
        let allow_anonymous = env.value("WORKSPACE_ALLOW_ANONYMOUS", values::switch)?;
        let http_host = env.value("WORKSPACE_HTTP_HOST", values::address)?;
        if !http_host.is_loopback() && api_keys.is_empty() && !allow_anonymous {
            return Err(format!(
                "WORKSPACE_HTTP_HOST={http_host}: without WORKSPACE_API_KEYS only a loopback address is allowed; set \
                 keys, or WORKSPACE_ALLOW_ANONYMOUS=true if everybody who reaches this address may run commands"
            ));
        }
        env.value("WORKSPACE_RUNTIME", values::runtime)?;
        let data_dir = env.path("WORKSPACE_DATA_DIR")?;
        let database_file = database_file(&env, &data_dir)?;
        let docker_host = match env.raw("WORKSPACE_DOCKER_HOST") {
            None => env.value("WORKSPACE_DOCKER_SOCKET", values::docker_host)?,
            Some(_) => env.value("WORKSPACE_DOCKER_HOST", values::docker_host)?,
        };
        let mcp_mode = env.value("WORKSPACE_MCP_MODE", McpMode::parse)?;
        let nfs_mode = env.value("WORKSPACE_NFS_MODE", NfsMode::parse)?;
        let nfs_host = env.value("WORKSPACE_NFS_HOST", values::host)?;
        let beyond = values::address(&nfs_host).is_none_or(|address| !address.is_loopback());
        if nfs_mode == NfsMode::Embedded && beyond && env.raw("WORKSPACE_NFS_ALLOW").is_none() {
            return Err(format!(
                "WORKSPACE_NFS_HOST={nfs_host}: NFS has no secrets, so beyond this machine it must be told who may \
                 mount; set WORKSPACE_NFS_ALLOW=ADDRESS/BITS,…, or WORKSPACE_NFS_MODE=disabled"
            ));
        }
        Ok(Config {
            http_host,
            http_port: env.value("WORKSPACE_HTTP_PORT", values::port_or_any)?,
            grpc_host: env.value("WORKSPACE_GRPC_HOST", values::address)?,
            grpc_port: env.value("WORKSPACE_GRPC_PORT", values::port)?,
            data_dir,
            database_file,
            pool_blanks: match (mcp_mode, env.raw("WORKSPACE_POOL_BLANKS")) {
                (McpMode::Stdio, None) => STDIO_POOL_BLANKS,
                _ => env.value("WORKSPACE_POOL_BLANKS", |v| values::number(v, 0, 4096))? as u32,
            },
            docker_host,
            docker_network: env.value("WORKSPACE_DOCKER_NETWORK", values::name)?,
            base_image: env.value("WORKSPACE_BASE_IMAGE", values::image)?,
            nfs_mode,
            nfs_port: env.value("WORKSPACE_NFS_PORT", values::port_or_any)?,
            nfs_port_was_set: env.raw("WORKSPACE_NFS_PORT").is_some(),
            nfs_host,
            nfs_clients: env.value("WORKSPACE_NFS_CLIENTS", NfsClients::parse)?,
            nfs_allow: env.value("WORKSPACE_NFS_ALLOW", Cidr::parse_list)?,
            mcp_mode,
            mcp_path: env.value("WORKSPACE_MCP_PATH", values::url_path)?,
            mcp_profile: env.value("WORKSPACE_MCP_PROFILE", McpProfile::parse)?,
            max_idle_time: env.value("WORKSPACE_MAX_IDLE_TIME", values::seconds)?,
            agent_timeout: env.value("WORKSPACE_AGENT_TIMEOUT", values::seconds_not_zero)?,
            api_keys,
            allow_anonymous,
            allowed_origins: env.value("WORKSPACE_ALLOWED_ORIGINS", values::origins)?,
            allowed_hosts: env.value("WORKSPACE_ALLOWED_HOSTS", values::hosts)?,
            cores: match env.raw("WORKSPACE_CORES") {
                None => None,
                Some(_) => Some(env.value("WORKSPACE_CORES", |v| values::number(v, 1, CORES_MAX as u64))? as usize),
            },
            log: env.value("RUST_LOG", values::log)?,
            warnings: warnings(&env),
        })
    }

    /// Where HTTP listens.
    pub fn http_address(&self) -> SocketAddr {
        SocketAddr::new(self.http_host, self.http_port)
    }

    /// Where NFS listens.
    pub fn nfs_address(&self) -> SocketAddr {
        let everywhere = IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED);
        SocketAddr::new(values::address(&self.nfs_host).unwrap_or(everywhere), self.nfs_port)
    }

    /// Where the database lies, seen from a process that has the data directory at `data_dir`.
    pub fn database_in(&self, data_dir: &Path) -> PathBuf {
        data_dir.join(&self.database_file)
    }
}

/// The database's name inside the data directory, or the line that says why it cannot lie where it was put.
fn database_file(env: &Reader, data_dir: &Path) -> Result<PathBuf, String> {
    const NAME: &str = "WORKSPACE_DATABASE_URL";
    let url = match env.raw(NAME) {
        None => return Ok(PathBuf::from("workspace.mdb")),
        Some(url) => url.to_str().ok_or_else(|| env.refusal(NAME))?,
    };
    let place = shown(data_dir.join("workspace.mdb").as_os_str());
    let shown_url = shown(url.as_ref());
    if url.starts_with("sqlite:") {
        return Err(format!(
            "{NAME}={shown_url}: sqlite is not used any more; allowed: lmdb://PATH, here lmdb://{place}, or leave it unset"
        ));
    }
    let path = url.strip_prefix("lmdb://").filter(|p| !p.is_empty()).ok_or_else(|| env.refusal(NAME))?;
    let inside = values::plain(Path::new(path)).and_then(|p| {
        let file = PathBuf::from(p.file_name()?);
        let is_ours = RESERVED.iter().any(|name| file == Path::new(name));
        (p.parent() == values::plain(data_dir).as_deref() && !is_ours).then_some(file)
    });
    inside.ok_or_else(|| {
        format!(
            "{NAME}={shown_url}: the database must be a file directly in WORKSPACE_DATA_DIR ({}); allowed: \
             lmdb://{place}, or leave it unset",
            shown(data_dir.as_os_str())
        )
    })
}

fn warnings(env: &Reader) -> Vec<String> {
    let mut lines: Vec<String> = NEVER_READ
        .iter()
        .filter(|(name, _)| env.is_set(name))
        .map(|(name, instead)| format!("{name} is set and has never had an effect; {instead}"))
        .collect();
    if env.raw("WORKSPACE_DOCKER_HOST").is_some() && env.raw("WORKSPACE_DOCKER_SOCKET").is_some() {
        lines.push("WORKSPACE_DOCKER_SOCKET is ignored: WORKSPACE_DOCKER_HOST is set".into());
    }
    lines.extend(env.unknown().map(|name| format!("{name} is set and is no variable of this server")));
    lines
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
