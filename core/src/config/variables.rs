//! Which variables exist: name, default, what is allowed, what it means. One table for `--help`, reference and checks.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::path::PathBuf;

/// One variable of the environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// The value it has when unset; parsed as if it had been set. Empty: see `meaning`.
    pub default: &'static str,
    /// What is allowed, as the error line says it.
    pub allowed: &'static str,
    /// What it does.
    pub meaning: &'static str,
    /// Its value is never shown.
    pub secret: bool,
}

const fn variable(name: &'static str, default: &'static str, allowed: &'static str, meaning: &'static str) -> Variable {
    Variable { name, default, allowed, meaning, secret: false }
}

/// Every variable that is read, in the order of the reference.
#[rustfmt::skip]
pub const VARIABLES: &[Variable] = &[
    variable("WORKSPACE_HTTP_HOST", "127.0.0.1", "an IPv4 or IPv6 address, or localhost",
        "where HTTP listens; other hosts can reach it only with API keys set, or WORKSPACE_ALLOW_ANONYMOUS=true"),
    variable("WORKSPACE_HTTP_PORT", "8080", "0..=65535",
        "port of HTTP; 0: the kernel chooses, and http.address in the data directory says which"),
    Variable { secret: true, ..variable("WORKSPACE_API_KEYS", "",
        "keys with commas between them, each 1..=256 visible ASCII characters, at most 1024 keys",
        "the keys that requests must bring; none: no key is asked for, and only this machine can call") },
    variable("WORKSPACE_ALLOW_ANONYMOUS", "false", "true or false",
        "without API keys, let other hosts call too: everybody who reaches the port may run commands"),
    variable("WORKSPACE_ALLOWED_ORIGINS", "", "origins as scheme://host[:port], with commas between them, at most 64",
        "web pages of these origins may call from a browser"),
    variable("WORKSPACE_ALLOWED_HOSTS", "", "host or host:port, with commas between them, at most 64",
        "names by which this server may be called beside loopback ones"),
    variable("WORKSPACE_DATA_DIR", "data", "a path that ends in a name",
        "directory of everything that is kept; made if missing"),
    variable("WORKSPACE_DATABASE_URL", "", "lmdb://PATH, a file directly in WORKSPACE_DATA_DIR",
        "the database, relative to the working directory; unset: workspace.mdb in WORKSPACE_DATA_DIR"),
    variable("WORKSPACE_RUNTIME", "auto", "auto or namespace (docker is not built yet)",
        "what runs sandboxes; auto: namespace"),
    variable("WORKSPACE_POOL_BLANKS", "32", "0..=4096",
        "sandboxes made ahead, so that create is fast; 0: none; unset with WORKSPACE_MCP_MODE=stdio: 2"),
    variable("WORKSPACE_CORES", "", "1..=64",
        "shards, one thread each; unset: as many as this machine runs in parallel, at most 64"),
    variable("WORKSPACE_BASE_IMAGE", "workspace-base:latest", "an image name: 1..=255 of a-z 0-9 . _ - / : @",
        "template of a create that names none"),
    variable("WORKSPACE_MAX_IDLE_TIME", "3600", "seconds, 0..=315360000",
        "idle seconds after which a sandbox may be put to rest; 0: never"),
    variable("WORKSPACE_AGENT_TIMEOUT", "30", "seconds, 1..=315360000",
        "how long the agent of a sandbox may take to answer"),
    variable("WORKSPACE_GRPC_HOST", "127.0.0.1", "an IPv4 or IPv6 address, or localhost",
        "where agents dial in that no Unix socket reaches (with the Docker runtime)"),
    variable("WORKSPACE_GRPC_PORT", "9090", "1..=65535", "port of WORKSPACE_GRPC_HOST"),
    variable("WORKSPACE_NFS_MODE", "embedded", "embedded or disabled", "whether /workspace of each sandbox is served over NFS"),
    variable("WORKSPACE_NFS_PORT", "2049", "0..=65535",
        "port of NFS and MOUNT; 0: the kernel chooses, and nfs.address in the data directory says which"),
    variable("WORKSPACE_NFS_HOST", "127.0.0.1", "a host name or an address",
        "host in a sandbox's nfs_url; NFS listens on an address alone, with a name on all; beyond loopback WORKSPACE_NFS_ALLOW must be set"),
    variable("WORKSPACE_NFS_CLIENTS", "guarded", "guarded or trusted",
        "trusted: clients see setuid bits of root's files, make devices, and give files to ids that no sandbox has"),
    variable("WORKSPACE_NFS_ALLOW", "127.0.0.0/8,::1/128", "ADDRESS/BITS, with commas between them, at most 256",
        "clients that may mount"),
    variable("WORKSPACE_MCP_MODE", "http", "disabled, http or stdio",
        "how MCP is served; stdio: on standard input and output, by the server that holds the data directory, or by one that is started for it, without any port"),
    variable("WORKSPACE_MCP_PATH", "/mcp", "a path that begins with / and does not end with it, of A-Z a-z 0-9 . _ - /, not below /api",
        "where MCP lies over HTTP"),
    variable("WORKSPACE_MCP_PROFILE", "developer", "executor (exec, minimal), developer (dev) or full (all, complete)",
        "tool set of MCP over stdio"),
    variable("WORKSPACE_DOCKER_HOST", "unix:///var/run/docker.sock", "unix://PATH, tcp://HOST:PORT or an absolute path",
        "the Docker engine"),
    variable("WORKSPACE_DOCKER_SOCKET", "unix:///var/run/docker.sock", "unix://PATH, tcp://HOST:PORT or an absolute path",
        "another name of WORKSPACE_DOCKER_HOST"),
    variable("WORKSPACE_DOCKER_NETWORK", "workspace-network", "1..=128 of A-Z a-z 0-9 . _ -",
        "the network of containers"),
    variable("RUST_LOG", "info", "off, error, warn, info, debug or trace, or TARGET=LEVEL, with commas between them",
        "what is logged"),
];

/// Variables that were documented once and never read, with what to use instead.
pub const NEVER_READ: &[(&str, &str)] = &[
    ("WORKSPACE_NFS_ENABLED", "use WORKSPACE_NFS_MODE=embedded or disabled"),
    ("NFS_SERVER", "use WORKSPACE_NFS_HOST"),
    ("NFS_PATH", "every sandbox is the export /ID"),
    ("MCP_ENABLED", "use WORKSPACE_MCP_MODE=http or disabled"),
];

/// The table as text for `--help`: a paragraph for each variable.
pub fn help() -> String {
    let mut text = String::new();
    for v in VARIABLES {
        let default = if v.default.is_empty() { String::new() } else { format!(" [{}]", v.default) };
        // Writing to a String cannot fail.
        let _ = write!(text, "  {}{default}\n      {}\n      allowed: {}\n", v.name, v.meaning, v.allowed);
    }
    text
}

/// An environment to read from, by declared names only.
pub(super) struct Reader {
    vars: BTreeMap<OsString, OsString>,
}

impl Reader {
    pub(super) fn new(vars: impl IntoIterator<Item = (OsString, OsString)>) -> Reader {
        let ours = |name: &OsString| {
            name.as_encoded_bytes().starts_with(b"WORKSPACE_")
                || VARIABLES.iter().any(|v| name == v.name)
                || NEVER_READ.iter().any(|(never, _)| name == never)
        };
        Reader { vars: vars.into_iter().filter(|(name, _)| ours(name)).collect() }
    }

    /// The value as it was set; empty is unset.
    pub(super) fn raw(&self, name: &str) -> Option<&OsStr> {
        self.vars.get(OsStr::new(name)).map(OsString::as_os_str).filter(|v| !v.is_empty())
    }

    /// The value, or the declared default, through its parser.
    pub(super) fn value<T>(&self, name: &str, parse: impl FnOnce(&str) -> Option<T>) -> Result<T, String> {
        let text = match self.raw(name) {
            Some(set) => set.to_str(),
            None => Some(declared(name).default),
        };
        text.and_then(parse).ok_or_else(|| self.refusal(name))
    }

    /// A path need not be UTF-8.
    pub(super) fn path(&self, name: &str) -> Result<PathBuf, String> {
        let path = PathBuf::from(self.raw(name).unwrap_or(OsStr::new(declared(name).default)));
        // A name at the end: the directory changes its owner, which must never happen to `/` or to where one stands.
        let allowed = path.file_name().is_some() && !path.as_os_str().as_encoded_bytes().contains(&0);
        if allowed { Ok(path) } else { Err(self.refusal(name)) }
    }

    /// The one line: variable, value, what is allowed.
    pub(super) fn refusal(&self, name: &str) -> String {
        let variable = declared(name);
        let value = match self.raw(name) {
            Some(_) if variable.secret => "(not shown)".into(),
            Some(value) => shown(value),
            None => variable.default.to_string(),
        };
        format!("{name}={value}: not a value of this variable; allowed: {}", variable.allowed)
    }

    pub(super) fn is_set(&self, name: &str) -> bool {
        self.vars.contains_key(OsStr::new(name))
    }

    /// `WORKSPACE_*` names that nobody declared.
    pub(super) fn unknown(&self) -> impl Iterator<Item = String> {
        const NAMES_MAX: usize = 32;
        self.vars
            .keys()
            .filter(|name| !VARIABLES.iter().any(|v| *name == v.name) && !NEVER_READ.iter().any(|(n, _)| name == n))
            .take(NAMES_MAX)
            .map(|name| shown(name))
    }
}

/// The beginning of a text, for a message of one line: it could hold a line break.
pub(super) fn shown(text: &OsStr) -> String {
    const SHOWN_CHARS_MAX: usize = 128;
    text.to_string_lossy().chars().take(SHOWN_CHARS_MAX).flat_map(char::escape_debug).collect()
}

/// Panics on a name that the table lacks: a mistake of ours that the tests would show.
fn declared(name: &str) -> &'static Variable {
    VARIABLES.iter().find(|v| v.name == name).unwrap_or_else(|| panic!("{name} is not in VARIABLES"))
}
