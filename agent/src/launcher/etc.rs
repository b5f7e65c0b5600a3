//! The `/etc` that sandboxes see: written by us or copied from a short list; nothing else of the host's is read.
//!
//! Only what every user of the host may read is copied, and nothing on the list is a place where programs keep
//! credentials (pip.conf, npmrc, gitconfig, environment and profile scripts are not on it).

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

/// Host name of every sandbox.
pub(crate) const HOST_NAME: &str = "workspace";

/// Copied when present, files and whole directories.
const COPIED: &[&str] = &[
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "alternatives",
    "ssl/certs",
    "ssl/openssl.cnf",
    "localtime",
    "timezone",
    "os-release",
    "locale.alias",
    "mime.types",
    "protocols",
    "services",
    "shells",
    "debian_version",
    "fonts",
    "perl",
    "terminfo",
    "inputrc",
    "magic",
];

/// Copied when a name begins so: versioned directories.
const COPIED_PREFIXES: &[&str] = &["java-", "python3"];

/// Largest file that is copied, in bytes.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// All that is copied, in bytes: it is memory.
const TOTAL_BYTES_MAX: u64 = 24 << 20;
/// Files, directories and symlinks copied.
const ENTRIES_MAX: u32 = 8192;
const DEPTH_MAX: u32 = 6;

const GROUPS: &[(&str, u32)] = &[
    ("root", 0),
    ("daemon", 1),
    ("bin", 2),
    ("sys", 3),
    ("adm", 4),
    ("tty", 5),
    ("disk", 6),
    ("lp", 7),
    ("mail", 8),
    ("news", 9),
    ("uucp", 10),
    ("man", 12),
    ("proxy", 13),
    ("kmem", 15),
    ("dialout", 20),
    ("sudo", 27),
    ("www-data", 33),
    ("backup", 34),
    ("list", 38),
    ("irc", 39),
    ("src", 40),
    ("shadow", 42),
    ("utmp", 43),
    ("video", 44),
    ("staff", 50),
    ("games", 60),
    ("users", 100),
    ("user", 1000),
    ("nogroup", 65534),
];

const USERS: &[(&str, u32, u32, &str)] = &[
    ("daemon", 1, 1, "/usr/sbin"),
    ("bin", 2, 2, "/bin"),
    ("sys", 3, 3, "/dev"),
    ("sync", 4, 65534, "/bin"),
    ("games", 5, 60, "/usr/games"),
    ("man", 6, 12, "/var/cache/man"),
    ("lp", 7, 7, "/var/spool/lpd"),
    ("mail", 8, 8, "/var/mail"),
    ("news", 9, 9, "/var/spool/news"),
    ("uucp", 10, 10, "/var/spool/uucp"),
    ("proxy", 13, 13, "/bin"),
    ("www-data", 33, 33, "/var/www"),
    ("backup", 34, 34, "/var/backups"),
    ("list", 38, 38, "/var/list"),
    ("irc", 39, 39, "/run/ircd"),
    ("_apt", 42, 65534, "/nonexistent"),
    ("nobody", 65534, 65534, "/nonexistent"),
];

/// Writes the directory `etc`, which exists and is empty, from our text and the host's `source`.
pub(crate) fn write(etc: &Path, source: &Path) -> io::Result<()> {
    let shell = if Path::new("/bin/bash").exists() { "/bin/bash" } else { "/bin/sh" };
    fs::write(etc.join("passwd"), passwd(shell))?;
    let groups: String = GROUPS.iter().map(|(name, id)| format!("{name}:x:{id}:\n")).collect();
    fs::write(etc.join("group"), groups)?;
    fs::write(etc.join("hostname"), format!("{HOST_NAME}\n"))?;
    fs::write(
        etc.join("hosts"),
        format!("127.0.0.1 localhost {HOST_NAME}\n::1 localhost ip6-localhost ip6-loopback\n"),
    )?;
    fs::write(etc.join("resolv.conf"), "")?;
    let databases = "passwd: files\ngroup: files\nhosts: files dns\nprotocols: files\nservices: files\n";
    fs::write(etc.join("nsswitch.conf"), databases)?;
    symlink("/proc/self/mounts", etc.join("mtab"))?;
    let mut copy = Copy { bytes: 0, entries: 0 };
    for name in COPIED {
        if let Some((parent, _)) = name.rsplit_once('/') {
            fs::create_dir_all(etc.join(parent))?;
        }
        copy.tree(&source.join(name), &etc.join(name), 0)?;
    }
    for entry in fs::read_dir(source)?.flatten() {
        let name = entry.file_name();
        if COPIED_PREFIXES.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            copy.tree(&entry.path(), &etc.join(&name), 0)?;
        }
    }
    Ok(())
}

fn passwd(shell: &str) -> String {
    let mut text = format!("root:x:0:0:root:/root:{shell}\n");
    for (name, user, group, home) in USERS {
        text += &format!("{name}:x:{user}:{group}:{name}:{home}:/usr/sbin/nologin\n");
    }
    text + &format!("user:x:1000:1000:user:/home/user:{shell}\n")
}

struct Copy {
    bytes: u64,
    entries: u32,
}

impl Copy {
    /// Copies what everybody may read; the rest, and what is beyond a bound, is left out.
    fn tree(&mut self, from: &Path, to: &Path, depth: u32) -> io::Result<()> {
        let Ok(metadata) = fs::symlink_metadata(from) else { return Ok(()) };
        self.entries += 1;
        if self.entries > ENTRIES_MAX || depth > DEPTH_MAX {
            return Ok(());
        }
        let kind = metadata.file_type();
        if kind.is_symlink() {
            return symlink(fs::read_link(from)?, to);
        }
        if kind.is_dir() && metadata.mode() & 0o005 == 0o005 {
            fs::create_dir(to)?;
            for entry in fs::read_dir(from)?.flatten() {
                self.tree(&entry.path(), &to.join(entry.file_name()), depth + 1)?;
            }
        }
        let fits = metadata.len() <= FILE_BYTES_MAX && self.bytes + metadata.len() <= TOTAL_BYTES_MAX;
        if kind.is_file() && metadata.mode() & 0o004 != 0 && fits {
            self.bytes += metadata.len();
            fs::write(to, fs::read(from)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn only_listed_and_public_files_arrive() {
        let base = std::env::temp_dir().join(format!("workspace-etc-{}", std::process::id()));
        let (source, etc) = (base.join("host"), base.join("etc"));
        fs::create_dir_all(source.join("ssl/certs")).unwrap();
        fs::create_dir_all(&etc).unwrap();
        for name in ["ssl/certs/ca.pem", "ssl/certs/private.pem", "pip.conf", "npmrc", "shadow", "services", "passwd"] {
            fs::write(source.join(name), "host").unwrap();
        }
        fs::set_permissions(source.join("ssl/certs/private.pem"), fs::Permissions::from_mode(0o640)).unwrap();
        write(&etc, &source).unwrap();
        assert_eq!(fs::read_to_string(etc.join("ssl/certs/ca.pem")).unwrap(), "host");
        assert_eq!(fs::read_to_string(etc.join("services")).unwrap(), "host");
        for absent in ["ssl/certs/private.pem", "pip.conf", "npmrc", "shadow", "ssl/private"] {
            assert!(!etc.join(absent).exists(), "{absent}");
        }
        assert!(fs::read_to_string(etc.join("passwd")).unwrap().contains("user:x:1000:1000:"));
        fs::remove_dir_all(base).unwrap();
    }
}
