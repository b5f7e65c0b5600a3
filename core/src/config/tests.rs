//! Does each variable take what it says, and refuse the rest in one line?

use super::variables::{VARIABLES, help};
use super::*;

fn read(vars: &[(&str, &str)]) -> Result<Config, String> {
    Config::from_env(vars.iter().map(|(k, v)| (k.into(), v.into())))
}

#[test]
fn nothing_set_is_the_documented_default() {
    let config = read(&[]).unwrap();
    assert_eq!(config.http_address().to_string(), "127.0.0.1:8080");
    assert_eq!(config.grpc_port, 9090);
    assert_eq!(config.data_dir, Path::new("data"));
    assert_eq!(config.database_in(Path::new("/data")), Path::new("/data/workspace.mdb"));
    assert_eq!((config.pool_blanks, config.cores), (32, None));
    assert_eq!(config.base_image, "workspace-base:latest");
    assert_eq!((config.nfs_mode, config.nfs_port, config.nfs_host.as_str()), (NfsMode::Embedded, 2049, "127.0.0.1"));
    assert_eq!((config.mcp_mode, config.mcp_path.as_str()), (McpMode::Http, "/mcp"));
    assert_eq!(config.mcp_profile, McpProfile::Developer);
    assert_eq!((config.max_idle_time.as_secs(), config.agent_timeout.as_secs()), (3600, 30));
    assert_eq!(config.docker_host, "unix:///var/run/docker.sock");
    assert!(config.api_keys.is_empty() && !config.allow_anonymous && config.warnings.is_empty());
    let same_as_empty: Vec<(&str, &str)> = VARIABLES.iter().map(|v| (v.name, "")).collect();
    assert_eq!(read(&same_as_empty).unwrap(), config);
}

/// A table of values for each variable: what is taken, and what stops the start.
#[test]
fn every_variable_takes_and_refuses() {
    #[rustfmt::skip]
    let table: &[(&str, &[&str], &[&str])] = &[
        ("WORKSPACE_HTTP_HOST", &["127.0.0.1", "::1", "[::1]", "localhost", "127.9.9.9"], &["0.0.0.0", "::", "10.0.0.1", "example.com", "127.1", " 127.0.0.1"]),
        ("WORKSPACE_HTTP_PORT", &["0", "1", "65535"], &["65536", "-1", "+1", "0x50", "80 ", "9223372036854775808", "١"]),
        ("WORKSPACE_API_KEYS", &["k", "a,b", " a , b ,"], &[",", "a b", "ä", " "]),
        ("WORKSPACE_ALLOW_ANONYMOUS", &["true", "false", "1", "0"], &["yes", "TRUE", "2"]),
        ("WORKSPACE_ALLOWED_ORIGINS", &["https://a.b", "http://localhost:3000,https://x.y:1"], &["*", "a.b", "https://", "https://a/b", "ftp://a", "https://a:b", ","]),
        ("WORKSPACE_ALLOWED_HOSTS", &["a.b", "a.b:80,[::1]:9"], &["*", "a/b", "a:", "a:0", "-a"]),
        ("WORKSPACE_DATA_DIR", &["d", "/var/lib/x", "../x"], &["/", ".", "..", "a/.."]),
        ("WORKSPACE_DATABASE_URL", &["lmdb://data/workspace.mdb", "lmdb://./data//other.mdb"], &["sqlite:data.db", "sqlite://x", "lmdb://", "lmdb://x.mdb", "data/workspace.mdb", "lmdb://data/../x", "lmdb://data/a/b.mdb", "lmdb:///x", "lmdb://data/run", "lmdb://data"]),
        ("WORKSPACE_RUNTIME", &["auto", "namespace"], &["docker", "kvm", "Auto"]),
        ("WORKSPACE_POOL_BLANKS", &["0", "4096"], &["4097", "-1", "many"]),
        ("WORKSPACE_CORES", &["1", "64"], &["0", "65", "2.5"]),
        ("WORKSPACE_BASE_IMAGE", &["a", "ghcr.io/a/b:Tag", "a@sha256:00"], &["A", "a b", "../a", "/a", ":a", "a\nb"]),
        ("WORKSPACE_MAX_IDLE_TIME", &["0", "315360000"], &["315360001", "1.5", "1h"]),
        ("WORKSPACE_AGENT_TIMEOUT", &["1", "30"], &["0", "-1"]),
        ("WORKSPACE_GRPC_HOST", &["0.0.0.0", "::"], &["x"]),
        ("WORKSPACE_GRPC_PORT", &["1"], &["0", "x"]),
        ("WORKSPACE_NFS_MODE", &["embedded", "disabled"], &["on", "true"]),
        ("WORKSPACE_NFS_PORT", &["2049", "0"], &["65536"]),
        ("WORKSPACE_NFS_HOST", &["localhost", "::1"], &["a b", "http://a", "a/b"]),
        ("WORKSPACE_NFS_CLIENTS", &["guarded", "trusted"], &["root", "Trusted", "1"]),
        ("WORKSPACE_NFS_ALLOW", &["10.0.0.0/8", "::/0,1.2.3.4/32"], &["10.0.0.0", "10.0.0.0/33", "::/129", "x/8", ","]),
        ("WORKSPACE_MCP_MODE", &["disabled", "http", "stdio"], &["sse", "STDIO"]),
        ("WORKSPACE_MCP_PATH", &["/mcp", "/a/b"], &["mcp", "/", "/a/", "//a", "/api/v1", "/a/../b", "/a?b"]),
        ("WORKSPACE_MCP_PROFILE", &["executor", "exec", "minimal", "developer", "dev", "full", "all", "complete"], &["admin", "Full"]),
        ("WORKSPACE_DOCKER_HOST", &["unix:///x", "/x", "tcp://a:1"], &["x", "tcp://a", "http://a:1", "unix://x"]),
        ("WORKSPACE_DOCKER_SOCKET", &["unix:///x"], &["x"]),
        ("WORKSPACE_DOCKER_NETWORK", &["n"], &["a b", "a/b"]),
        ("RUST_LOG", &["info", "DEBUG", "warn,workspace_core=trace,h2=off"], &["info,", "a=loud", "a[b]=info"]),
    ];
    let tested: Vec<&str> = table.iter().map(|(name, ..)| *name).collect();
    assert_eq!(tested, VARIABLES.iter().map(|v| v.name).collect::<Vec<_>>());
    for (name, good, bad) in table {
        for value in *good {
            let config = read(&[(name, value)]);
            assert!(config.is_ok(), "{name}={value}: {config:?}");
            assert_eq!(config.unwrap().warnings, Vec::<String>::new());
        }
        for value in *bad {
            let line = read(&[(name, value)]).expect_err(&format!("{name}={value} was taken"));
            assert!(line.starts_with(&format!("{name}=")) && line.contains("allowed"), "{line}");
            assert!(!line.contains('\n'), "more than one line: {line:?}");
        }
    }
}

#[test]
fn without_keys_only_this_machine_can_call() {
    for host in ["0.0.0.0", "::", "192.168.1.1"] {
        let line = read(&[("WORKSPACE_HTTP_HOST", host)]).unwrap_err();
        assert!(line.contains("WORKSPACE_API_KEYS") && line.contains("WORKSPACE_ALLOW_ANONYMOUS=true"), "{line}");
        assert!(read(&[("WORKSPACE_HTTP_HOST", host), ("WORKSPACE_API_KEYS", "k")]).is_ok());
        assert!(read(&[("WORKSPACE_HTTP_HOST", host), ("WORKSPACE_ALLOW_ANONYMOUS", "true")]).is_ok());
    }
    assert!(read(&[("WORKSPACE_API_KEYS", "k")]).unwrap().http_host.is_loopback());
}

#[test]
fn secrets_are_not_shown() {
    let config = read(&[("WORKSPACE_API_KEYS", "hunter2,swordfish")]).unwrap();
    assert_eq!(config.api_keys.expose(), ["hunter2", "swordfish"]);
    assert!(!format!("{config:?}").contains("hunter2"));
    let line = read(&[("WORKSPACE_API_KEYS", "hunter2, sword fish")]).unwrap_err();
    assert!(!line.contains("hunter2") && !line.contains("sword"), "{line}");
}

#[test]
fn sqlite_names_the_new_form() {
    let line =
        read(&[("WORKSPACE_DATABASE_URL", "sqlite:x.db"), ("WORKSPACE_DATA_DIR", "/var/lib/workspace")]).unwrap_err();
    assert!(line.contains("lmdb:///var/lib/workspace/workspace.mdb"), "{line}");
    assert!(read(&[("WORKSPACE_DATABASE_URL", "lmdb:///d/x.mdb"), ("WORKSPACE_DATA_DIR", "/d/")]).is_ok());
    assert!(read(&[("WORKSPACE_DATABASE_URL", "lmdb:///d/x.mdb"), ("WORKSPACE_DATA_DIR", "/e")]).is_err());
}

#[test]
fn what_means_nothing_is_warned_of_by_name() {
    let names = ["WORKSPACE_NFS_ENABLED", "NFS_SERVER", "NFS_PATH", "MCP_ENABLED", "WORKSPACE_HTTP_PROT"];
    let vars: Vec<(&str, &str)> = names.iter().map(|n| (*n, "true")).chain([("HOME", "/x"), ("NFS_X", "")]).collect();
    let warnings = read(&vars).unwrap().warnings;
    assert_eq!(warnings.len(), names.len(), "{warnings:?}");
    for name in names {
        assert!(warnings.iter().any(|w| w.starts_with(&format!("{name} "))), "{name}: {warnings:?}");
    }
}

#[test]
fn docker_socket_is_an_alias() {
    assert_eq!(read(&[("WORKSPACE_DOCKER_SOCKET", "/s")]).unwrap().docker_host, "unix:///s");
    let both = read(&[("WORKSPACE_DOCKER_SOCKET", "/s"), ("WORKSPACE_DOCKER_HOST", "/h")]).unwrap();
    assert_eq!((both.docker_host.as_str(), both.warnings.len()), ("unix:///h", 1));
}

#[test]
fn a_value_that_is_not_text_is_refused() {
    use std::os::unix::ffi::OsStringExt;
    let line = Config::from_env([("WORKSPACE_HTTP_PORT".into(), OsString::from_vec(vec![0xff]))]).unwrap_err();
    assert!(line.contains("WORKSPACE_HTTP_PORT"), "{line}");
    let odd = OsString::from_vec(b"d\xff".to_vec());
    assert_eq!(Config::from_env([("WORKSPACE_DATA_DIR".into(), odd.clone())]).unwrap().data_dir, Path::new(&odd));
}

#[test]
fn ranges_contain_their_addresses() {
    let config = read(&[]).unwrap();
    let allows = |a: &str| config.nfs_allow.iter().any(|range| range.contains(a.parse().unwrap()));
    assert!(allows("127.0.0.1") && allows("127.255.0.9") && allows("::1") && allows("::ffff:127.0.0.1"));
    assert!(!allows("128.0.0.1") && !allows("::2") && !allows("0.0.0.0"));
}

#[test]
fn nfs_beyond_this_machine_wants_a_list_of_clients() {
    for host in ["nfs.example.com", "0.0.0.0", "192.0.2.1"] {
        let line = read(&[("WORKSPACE_NFS_HOST", host)]).expect_err("no list");
        assert!(line.starts_with("WORKSPACE_NFS_HOST=") && line.contains("WORKSPACE_NFS_ALLOW"), "{line}");
        assert!(read(&[("WORKSPACE_NFS_HOST", host), ("WORKSPACE_NFS_MODE", "disabled")]).is_ok());
        let config = read(&[("WORKSPACE_NFS_HOST", host), ("WORKSPACE_NFS_ALLOW", "192.0.2.0/24")]).expect("a list");
        assert!(config.nfs_address().ip().is_unspecified() || config.nfs_address().ip().to_string() == host);
    }
}

#[test]
fn help_names_every_variable() {
    let text = help();
    assert!(VARIABLES.iter().all(|v| text.contains(v.name) && text.contains(v.allowed)));
}
