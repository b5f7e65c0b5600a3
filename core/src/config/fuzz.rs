//! Does a value that is taken keep its variable's promise, whatever the text? Targets of every parser of the configuration.

use super::variables::VARIABLES;
use super::*;
use crate::fuzz::run;
use std::fmt::Debug;
use std::os::unix::ffi::OsStringExt;

/// Reading what was read changes nothing: there is one spelling of each value.
fn is_settled<T: PartialEq + Debug>(parse: impl Fn(&str) -> Option<T>, written: &str, value: &T) {
    assert_eq!(parse(written).as_ref(), Some(value), "{written:?}");
}

/// One line that a terminal can show.
fn is_one_line(text: &str) {
    assert!(!text.is_empty() && !text.contains(char::is_control), "{text:?}");
    assert!(text.len() <= 4096, "{} bytes", text.len());
}

/// Digits alone, within the range.
fn numbers(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let plain = text.bytes().all(|b| b.is_ascii_digit()).then(|| text.trim_start_matches('0'));
    for (min, max) in [(0, u64::MAX), (1, 64), (0, 4096), (5, 5)] {
        let Some(n) = values::number(text, min, max) else { continue };
        assert!((min..=max).contains(&n));
        assert_eq!(plain, Some(n.to_string().trim_start_matches('0')));
    }
    assert!(values::port(text).is_none_or(|port| port > 0 && values::port_or_any(text) == Some(port)));
    let longest = Duration::from_secs(315_360_000);
    assert!(values::seconds(text).is_none_or(|time| time <= longest));
    assert_eq!(values::seconds_not_zero(text), values::seconds(text).filter(|time| !time.is_zero()));
}

#[test]
fn numbers_are_digits_within_their_range() {
    run(numbers, &[b"0", b"00080", b"65535", b"65536", b"315360000", b"9999999999999999999", b"18446744073709551616"]);
}

fn switches(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    assert_eq!(values::switch(text).is_some(), ["true", "false", "1", "0"].contains(&text));
    assert_eq!(NfsClients::parse(text).is_some(), ["guarded", "trusted"].contains(&text));
    assert_eq!(NfsMode::parse(text).is_some(), ["embedded", "disabled"].contains(&text));
    assert_eq!(McpMode::parse(text).is_some(), ["disabled", "http", "stdio"].contains(&text));
    let profiles = ["executor", "exec", "minimal", "developer", "dev", "full", "all", "complete"];
    assert_eq!(McpProfile::parse(text).is_some(), profiles.contains(&text));
    assert_eq!(values::runtime(text).is_some(), ["auto", "namespace"].contains(&text));
}

#[test]
fn words_are_taken_whole() {
    run(switches, &[b"true", b"0", b"embedded", b"stdio", b"disabled", b"developer", b"minimal", b"auto", b"docker"]);
}

/// A host keeps its meaning; an address is the same one when it is written again.
fn hosts(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Some(address) = values::address(text) {
        is_settled(values::address, &address.to_string(), &address);
    }
    if let Some(host) = values::host(text) {
        assert!(host.len() <= 253 && !host.contains([' ', '/', ',', '@', '%']));
        is_settled(values::host, &host, &host);
    }
    if let Some(hosts) = values::hosts(text) {
        assert!(hosts.len() <= 64);
        assert!(hosts.iter().all(|host| *host == host.to_ascii_lowercase() && !host.contains([' ', '/', ',', '@'])));
        is_settled(values::hosts, &hosts.join(","), &hosts);
    }
}

#[test]
fn hosts_have_one_spelling() {
    run(
        hosts,
        &[
            b"a.b,A.B:80,[::1]:9,::1",
            b"localhost",
            b"[2001:DB8::1]:443,127.0.0.1:1, x-y.z:00080",
            b"::ffff:1.2.3.4",
            b"-a,a-,a..b,a_b",
            b"a:0,a:65536,a:",
            b"[127.0.0.1],[::1",
        ],
    );
}

/// An origin is what a browser sends: lower case, brackets around IPv6, no port that the scheme implies.
fn origins(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Some(origins) = values::origins(text) else { return };
    assert!(origins.len() <= 64);
    for origin in &origins {
        let (scheme, host) = origin.split_once("://").unwrap();
        assert!(["http", "https"].contains(&scheme) && *origin == origin.to_ascii_lowercase());
        assert!(!host.is_empty() && !host.contains(['/', ' ', ',', '@', '?', '#']), "{origin}");
        assert!(!host.ends_with(if scheme == "http" { ":80" } else { ":443" }) || host.ends_with("]"), "{origin}");
        assert!(!host.contains(':') || host.starts_with('[') || host.matches(':').count() == 1, "{origin}");
    }
    is_settled(values::origins, &origins.join(","), &origins);
}

#[test]
fn origins_are_what_browsers_send() {
    run(
        origins,
        &[
            b"https://app.example,http://LocalHost:3000",
            b"https://a.b:443,http://a.b:80,http://a.b:443",
            b"http://[::1]:8080,http://::1,https://[2001:DB8::1]",
            b"https://a:00443",
            b"https://a/b,ftp://a,HTTP://a,a://",
        ],
    );
}

/// Each key is one that a header can carry; none of them is ever shown; no keys only where nothing was written.
fn api_keys(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Some(keys) = ApiKeys::parse(text) else { return };
    assert_eq!(keys.is_empty(), text.is_empty());
    assert!(keys.expose().len() <= 1024);
    for (at, key) in keys.expose().iter().enumerate() {
        assert!((1..=256).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic() && b != b','), "{key}");
        assert!(!keys.expose()[..at].contains(key));
        assert!(text.contains(key.as_str()));
    }
    is_settled(ApiKeys::parse, &keys.expose().join(","), &keys);
    assert_eq!(format!("{keys:?}"), format!("ApiKeys({} not shown)", keys.expose().len()));
}

#[test]
fn keys_are_those_that_were_written() {
    let longest = "k".repeat(256);
    let too_long = "k".repeat(257);
    let too_many = (0..1025).map(|n| format!("{n},")).collect::<String>();
    let corpus: [&[u8]; 6] =
        [b"k", b" a , b ,,a", b"a b", " ä,".as_bytes(), longest.as_bytes(), b"!\"#$%&'()*+-./:;<=>?@[\\]^_`{|}~"];
    run(api_keys, &corpus);
    assert!(ApiKeys::parse(&too_long).is_none() && ApiKeys::parse(&too_many).is_none());
}

/// A range holds its own address, and of its neighbours those that differ behind the prefix.
fn ranges(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Some(ranges) = Cidr::parse_list(text) else { return };
    assert!(ranges.len() <= 256);
    for (range, written) in ranges.iter().zip(text.split(',')) {
        let (address, bits) = written.trim().split_once('/').unwrap();
        let (address, bits): (IpAddr, u32) = (address.parse().unwrap(), bits.parse().unwrap());
        let width = if address.is_ipv4() { 32 } else { 128 };
        assert!(bits <= width);
        // A range of IPv6 addresses that is wider than those of IPv4 in it holds no IPv4.
        if address.to_canonical() != address && bits < 96 {
            continue;
        }
        assert!(range.contains(address), "{written}");
        for bit in 0..width {
            let neighbour: IpAddr = match address {
                IpAddr::V4(a) => std::net::Ipv4Addr::from_bits(a.to_bits() ^ 1 << (31 - bit)).into(),
                IpAddr::V6(a) => std::net::Ipv6Addr::from_bits(a.to_bits() ^ 1 << (127 - bit)).into(),
            };
            let other_family = neighbour.to_canonical().is_ipv4() != address.to_canonical().is_ipv4();
            assert_eq!(range.contains(neighbour), bit >= bits && !other_family, "{written} and {neighbour}");
        }
    }
}

#[test]
fn ranges_hold_what_their_prefix_says() {
    run(
        ranges,
        &[
            b"127.0.0.0/8,::1/128",
            b"0.0.0.0/0,::/0",
            b"10.1.2.3/31, fe80::/10",
            // Held nothing: an IPv4 address in IPv6 form counts as IPv4, and the range did not.
            b"::ffff:127.0.0.1/128,::ffff:10.0.0.0/104",
            b"1.2.3.4/33,::/129,1.2.3.4/,/8,1.2.3.4/+8",
        ],
    );
}

/// Names of images, networks and paths hold nothing that means something elsewhere.
fn names(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    for (parse, length_max) in
        [(values::name as fn(&str) -> Option<String>, 128), (values::image, 255), (values::url_path, 128)]
    {
        let Some(value) = parse(text) else { continue };
        assert_eq!(value, text);
        assert!((1..=length_max).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_graphic()));
        assert!(!value.contains(['?', '#', '%', '\\', '*', '"', '\'', '$', '`', ';', '&', '|', '<', '>']));
    }
    if let Some(path) = values::url_path(text) {
        assert!(path.starts_with('/') && !path.ends_with('/') && !path.contains("//") && !path.contains("/../"));
        assert!(path != "/api" && !path.starts_with("/api/"));
    }
    assert!(values::image(text).is_none_or(|image| !image.contains("..") && !image.starts_with('/')));
}

#[test]
fn names_hold_nothing_that_means_more() {
    run(
        names,
        &[
            b"workspace-network",
            b"workspace-base:latest",
            b"ghcr.io/a/b:Tag",
            b"a@sha256:00",
            b"../a",
            b"A:b",
            b"/mcp",
            b"/a/b.c_d-e",
            b"/api/v1",
            b"/a/../b",
            b"//a",
            b"/apis",
        ],
    );
}

fn engines(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Some(engine) = values::docker_host(text) else { return };
    assert!(engine.starts_with("unix:///") || engine.starts_with("tcp://"), "{engine}");
    is_settled(values::docker_host, &engine, &engine);
}

#[test]
fn engines_are_urls() {
    run(
        engines,
        &[b"unix:///var/run/docker.sock", b"/var/run/docker.sock", b"tcp://a:1", b"tcp://[::1]:2375", b"unix://x"],
    );
}

/// What is logged has one spelling, without the blanks that would become part of a target's name.
fn log(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Some(filter) = values::log(text) else { return };
    assert!(!filter.contains(char::is_whitespace), "{filter:?}");
    assert!(filter.split(',').count() <= 64);
    is_settled(values::log, &filter, &filter);
}

#[test]
fn a_filter_of_the_log_has_no_blanks() {
    // The blank made " workspace_core" the name of a target that nothing has.
    run(
        log,
        &[b"info", b"warn,workspace_core=trace,h2=off", b"warn, workspace_core=trace", b"info,", b"a=loud", b"a==b"],
    );
}

/// A plain path can be compared: no `.`, no `..`, no doubled slash, and it is where it was.
fn paths(input: &[u8]) {
    let path = PathBuf::from(OsString::from_vec(input.to_vec()));
    let Some(plain) = values::plain(&path) else {
        assert!(path.components().any(|part| part == std::path::Component::ParentDir));
        return;
    };
    assert_eq!(plain.is_absolute(), path.is_absolute());
    assert_eq!(plain.file_name(), path.file_name());
    let bytes = plain.as_os_str().as_encoded_bytes();
    assert!(!bytes.windows(2).any(|two| two == b"//"));
    assert!(bytes.split(|b| *b == b'/').all(|part| part != b"." && part != b".."));
    assert_eq!(values::plain(&plain), Some(plain.clone()));
}

#[test]
fn plain_paths_can_be_compared() {
    run(paths, &[b"/var/lib/x", b"./a//b/.", b"../x", b"a/..", b"/", b".", b"a\xff/b"]);
}

/// `NAME=value` lines. Whatever is set, there is a configuration that holds its promises, or one line.
fn environment(input: &[u8]) {
    let vars = || {
        input.split(|b| *b == b'\n').filter_map(|line| {
            let at = line.iter().position(|b| *b == b'=')?;
            // Escaped line breaks: a value may hold some.
            let value = String::from_utf8_lossy(&line[at + 1..]).replace("\\n", "\n");
            let value = if value.contains('\u{fffd}') { line[at + 1..].to_vec() } else { value.into_bytes() };
            Some((OsString::from_vec(line[..at].to_vec()), OsString::from_vec(value)))
        })
    };
    let read = Config::from_env(vars());
    assert_eq!(read, Config::from_env(vars()));
    let secret = "swordfish";
    let shows_it = |(name, value): (OsString, OsString)| {
        name != "WORKSPACE_API_KEYS" && format!("{}={}", name.display(), value.display()).contains(secret)
    };
    match read {
        Err(line) => {
            is_one_line(&line);
            assert!(!line.contains(secret) || vars().any(shows_it), "{line}");
            assert!(VARIABLES.iter().any(|v| line.starts_with(&format!("{}=", v.name))), "{line}");
        }
        Ok(config) => {
            assert!(config.http_host.is_loopback() || !config.api_keys.is_empty() || config.allow_anonymous);
            assert!(config.pool_blanks <= 4096 && config.cores.is_none_or(|n| (1..=CORES_MAX).contains(&n)));
            assert!(config.grpc_port > 0 && !config.agent_timeout.is_zero());
            assert!(config.data_dir.file_name().is_some());
            let file = &config.database_file;
            assert!(file.components().count() == 1 && file.file_name() == Some(file.as_os_str()), "{file:?}");
            assert!(!RESERVED.iter().any(|name| file == Path::new(name)), "{file:?}");
            config.warnings.iter().for_each(|line| is_one_line(line));
            assert!(config.warnings.len() <= 64);
            assert!(!format!("{config:?}").contains(secret) || vars().any(shows_it));
        }
    }
}

#[test]
fn any_environment_is_a_configuration_or_one_line() {
    let defaults: String = VARIABLES.iter().map(|v| format!("{}={}\n", v.name, v.default)).collect();
    let never: String = NEVER_READ.iter().map(|(name, _)| format!("{name}=1\n")).collect();
    let corpus: [&[u8]; 8] = [
        defaults.as_bytes(),
        never.as_bytes(),
        b"WORKSPACE_HTTP_HOST=0.0.0.0\nWORKSPACE_API_KEYS=swordfish,b\nWORKSPACE_CORES=2\nWORKSPACE_HTTP_PROT=1",
        b"WORKSPACE_HTTP_HOST=::\nWORKSPACE_ALLOW_ANONYMOUS=1",
        b"WORKSPACE_API_KEYS=swordfish, sword fish\nHOME=/x",
        b"WORKSPACE_DATA_DIR=d\xff\nWORKSPACE_DATABASE_URL=lmdb://./d\xff//other.mdb",
        // Was two lines: the message of a refused database showed value and directory as they were.
        b"WORKSPACE_DATA_DIR=a\\nb\nWORKSPACE_DATABASE_URL=sqlite:x\\ny",
        b"WORKSPACE_DATA_DIR=/var/lib/x\nWORKSPACE_DATABASE_URL=lmdb:///var/lib/x/\\n",
    ];
    run(environment, &corpus);
}
