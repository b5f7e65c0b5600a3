//! How a value is written: one small parser each, `None` where it is not allowed.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

const SECONDS_MAX: u64 = 315_360_000; // ten years
const LIST_ENTRIES_MAX: usize = 64;
const KEYS_MAX: usize = 1024;
const KEY_BYTES_MAX: usize = 256;
const CIDR_ENTRIES_MAX: usize = 256;

/// API keys. Never shown, not even by `Debug`.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct ApiKeys(Vec<String>);

impl ApiKeys {
    /// Keys with commas between them; the empty text is no keys.
    pub(super) fn parse(text: &str) -> Option<ApiKeys> {
        let mut keys: Vec<String> = Vec::new();
        for key in text.split(',').map(str::trim).filter(|key| !key.is_empty()) {
            if key.len() > KEY_BYTES_MAX || !key.bytes().all(|b| b.is_ascii_graphic()) || keys.len() == KEYS_MAX {
                return None;
            }
            if !keys.iter().any(|known| known == key) {
                keys.push(key.to_string());
            }
        }
        // " , " was meant to hold keys: taking it for none would open the server.
        (text.is_empty() || !keys.is_empty()).then_some(ApiKeys(keys))
    }

    /// True where no key is asked for.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The keys, for the one place that compares them in constant time.
    pub fn expose(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKeys({} not shown)", self.0.len())
    }
}

/// Whether NFS is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NfsMode {
    /// By this server.
    Embedded,
    /// Not at all.
    Disabled,
}

impl NfsMode {
    pub(super) fn parse(text: &str) -> Option<NfsMode> {
        match text {
            "embedded" => Some(NfsMode::Embedded),
            "disabled" => Some(NfsMode::Disabled),
            _ => None,
        }
    }
}

/// How far NFS clients are trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NfsClients {
    /// What could hurt them is kept from them.
    Guarded,
    /// They get all that a file system has.
    Trusted,
}

impl NfsClients {
    pub(super) fn parse(text: &str) -> Option<NfsClients> {
        match text {
            "guarded" => Some(NfsClients::Guarded),
            "trusted" => Some(NfsClients::Trusted),
            _ => None,
        }
    }
}

/// How MCP is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum McpMode {
    /// Not at all.
    Disabled,
    /// On the HTTP port, and to other programs of the owner that serve it at their pipes.
    Http,
    /// At this program's own pipes.
    Stdio,
}

impl McpMode {
    pub(super) fn parse(text: &str) -> Option<McpMode> {
        match text {
            "disabled" => Some(McpMode::Disabled),
            "http" => Some(McpMode::Http),
            "stdio" => Some(McpMode::Stdio),
            _ => None,
        }
    }
}

/// A set of MCP tools, each one holding the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum McpProfile {
    /// Runs commands.
    Executor,
    /// And works with files.
    Developer,
    /// And everything else.
    Full,
}

impl McpProfile {
    pub(super) fn parse(text: &str) -> Option<McpProfile> {
        match text {
            "executor" | "exec" | "minimal" => Some(McpProfile::Executor),
            "developer" | "dev" => Some(McpProfile::Developer),
            "full" | "all" | "complete" => Some(McpProfile::Full),
            _ => None,
        }
    }
}

/// A range of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    bits: u8,
}

impl Cidr {
    fn parse(text: &str) -> Option<Cidr> {
        let (address, bits) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let bits = number(bits, 0, if address.is_ipv4() { 32 } else { 128 })? as u8;
        // The IPv4 addresses in IPv6 form are ::ffff:0:0/96; a wider range is one of IPv6 addresses.
        match (address, address.to_canonical()) {
            (IpAddr::V6(_), IpAddr::V4(v4)) if bits >= 96 => Some(Cidr { address: v4.into(), bits: bits - 96 }),
            _ => Some(Cidr { address, bits }),
        }
    }

    pub(super) fn parse_list(text: &str) -> Option<Vec<Cidr>> {
        list(text, CIDR_ENTRIES_MAX, Cidr::parse)
    }

    /// Whether an address lies in the range; an IPv4 address in IPv6 form counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(a)) => (net.to_bits() ^ a.to_bits()).leading_zeros() >= u32::from(self.bits),
            (IpAddr::V6(net), IpAddr::V6(a)) => (net.to_bits() ^ a.to_bits()).leading_zeros() >= u32::from(self.bits),
            _ => false,
        }
    }
}

/// Digits only: no sign, no space, nothing that `parse` would forgive.
pub(super) fn number(text: &str, min: u64, max: u64) -> Option<u64> {
    let digits = (1..=19).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|n| digits && (min..=max).contains(n))
}

pub(super) fn port(text: &str) -> Option<u16> {
    number(text, 1, 65_535).map(|n| n as u16)
}

pub(super) fn port_or_any(text: &str) -> Option<u16> {
    number(text, 0, 65_535).map(|n| n as u16)
}

pub(super) fn seconds(text: &str) -> Option<Duration> {
    number(text, 0, SECONDS_MAX).map(Duration::from_secs)
}

pub(super) fn seconds_not_zero(text: &str) -> Option<Duration> {
    number(text, 1, SECONDS_MAX).map(Duration::from_secs)
}

pub(super) fn switch(text: &str) -> Option<bool> {
    match text {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

pub(super) fn address(text: &str) -> Option<IpAddr> {
    if text == "localhost" {
        return Some(Ipv4Addr::LOCALHOST.into());
    }
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok()
}

/// `docker` is a value of the contract, but nothing here can be it.
pub(super) fn runtime(text: &str) -> Option<()> {
    matches!(text, "auto" | "namespace").then_some(())
}

/// A host name (RFC 1123) or an address.
pub(super) fn host(text: &str) -> Option<String> {
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    let named = text.len() <= 253 && text.split('.').all(label);
    (named || address(text).is_some()).then(|| text.to_ascii_lowercase())
}

/// A host as it stands in a URL and in the field Host, and the port behind it.
fn host_and_port(text: &str) -> Option<(String, Option<u16>)> {
    let (name, number) = match host(text) {
        Some(name) => (name, None),
        None => {
            let (name, number) = text.rsplit_once(':')?;
            (host(name)?, Some(port(number)?))
        }
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    Some((bare.parse::<Ipv6Addr>().map_or(name.clone(), |address| format!("[{address}]")), number))
}

fn with_port((name, number): (String, Option<u16>)) -> String {
    number.map_or(name.clone(), |number| format!("{name}:{number}"))
}

pub(super) fn hosts(text: &str) -> Option<Vec<String>> {
    list(text, LIST_ENTRIES_MAX, |host| host_and_port(host).map(with_port))
}

/// As browsers write them: without the port that the scheme implies (RFC 6454 section 6.2).
pub(super) fn origins(text: &str) -> Option<Vec<String>> {
    list(text, LIST_ENTRIES_MAX, |origin| {
        let (scheme, host) = origin.split_once("://")?;
        let implied = match scheme {
            "http" => 80,
            "https" => 443,
            _ => return None,
        };
        let (name, number) = host_and_port(host)?;
        Some(format!("{scheme}://{}", with_port((name, number.filter(|number| *number != implied)))))
    })
}

fn of(text: &str, length_max: usize, allowed: &[u8]) -> Option<String> {
    let fits = (1..=length_max).contains(&text.len());
    (fits && text.bytes().all(|b| b.is_ascii_alphanumeric() || allowed.contains(&b))).then(|| text.to_string())
}

pub(super) fn name(text: &str) -> Option<String> {
    of(text, 128, b"._-")
}

pub(super) fn image(text: &str) -> Option<String> {
    let lowercase = !text.split(':').next()?.bytes().any(|b| b.is_ascii_uppercase());
    of(text, 255, b"._-/:@").filter(|name| lowercase && !name.contains("..") && !name.starts_with(['/', ':', '@', '-']))
}

pub(super) fn url_path(text: &str) -> Option<String> {
    let path = of(text, 128, b"._-/")?;
    let whole = path.strip_prefix('/')?.split('/').all(|part| !matches!(part, "" | "." | ".."));
    (whole && path != "/api" && !path.starts_with("/api/")).then_some(path)
}

pub(super) fn docker_host(text: &str) -> Option<String> {
    if text.starts_with('/') {
        return Some(format!("unix://{text}"));
    }
    let unix = text.strip_prefix("unix://").is_some_and(|path| path.starts_with('/'));
    let tcp = text.strip_prefix("tcp://").is_some_and(|at| at.contains(':') && host_and_port(at).is_some());
    (unix || tcp).then(|| text.to_string())
}

pub(super) fn log(text: &str) -> Option<String> {
    let level = |l: &str| ["off", "error", "warn", "info", "debug", "trace"].iter().any(|k| k.eq_ignore_ascii_case(l));
    let directive = |d: &str| match d.split_once('=') {
        None => level(d) || of(d, 128, b"_:-").is_some(),
        Some((target, l)) => of(target, 128, b"_:-").is_some() && level(l),
    };
    // Without blanks: one before a directive would count as part of its target's name.
    list(text, LIST_ENTRIES_MAX, |d| directive(d).then(|| d.to_string())).map(|directives| directives.join(","))
}

fn list<T>(text: &str, entries_max: usize, parse: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    let entries: Vec<T> = text.split(',').map(|entry| parse(entry.trim())).collect::<Option<_>>()?;
    (entries.len() <= entries_max).then_some(entries)
}

/// A path without `.` and doubled slashes, so that two can be compared; `None` where `..` makes that a guess.
pub(super) fn plain(path: &Path) -> Option<PathBuf> {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
            Component::RootDir | Component::Normal(_) => plain.push(part),
        }
    }
    Some(plain)
}
