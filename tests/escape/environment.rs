//! N15: an environment and a PATH that commands get never reach the trusted side.

use crate::case;
use crate::kit::Server;
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt;

const HOSTILE: [(&str, &str); 9] = [
    ("LD_PRELOAD", "/workspace/evil.so"),
    ("LD_AUDIT", "/workspace/evil.so"),
    ("LD_LIBRARY_PATH", "/workspace"),
    ("GLIBC_TUNABLES", "glibc.malloc.check=3"),
    ("GCONV_PATH", "/workspace"),
    ("BASH_ENV", "/workspace/bash-env"),
    ("ENV", "/workspace/bash-env"),
    ("PATH", "/workspace/bin"),
    ("RUST_LOG", "trace"),
];
const FAKES: &str = "sh mount umount env newuidmap newgidmap true ip setpriv";

#[test]
fn n15_hostile_variables_reach_the_command_alone() {
    case::each(|case| {
        let library = "#include <stdio.h>\n#include <unistd.h>\n__attribute__((constructor)) static void f(void) { char p[64]; \
            snprintf(p, sizeof p, \"/workspace/marks/preload-%d-%d\", getpid(), getuid()); FILE *m = fopen(p, \"w\"); if (m) fclose(m); }";
        case.sh("user", &format!("mkdir -m 777 /workspace/marks /workspace/bin; cd /workspace/bin; for fake in {FAKES}; do \
            printf '#!/usr/bin/python3\\nopen(\"/workspace/marks/fake-%s\", \"w\")\\n' $fake > $fake; chmod 755 $fake; done; \
            echo 'echo > /workspace/marks/bash-env' > /workspace/bash-env"));
        let body = json!({"command": "cc", "args": ["-shared", "-fPIC", "-x", "c", "-", "-o", "/workspace/evil.so"], "stdin": library});
        assert_eq!(case.run_in(&case.id, &body).expect(200).json()["exit_code"], 0);
        let env: serde_json::Map<_, _> =
            HOSTILE.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        for &user in case.users() {
            case.sh("user", "rm -f /workspace/marks/*");
            let body = json!({"command": "/usr/bin/id", "env": env, "user": user});
            let answer = case.run_in(&case.id, &body).expect(200).json();
            assert_eq!(answer["exit_code"], 0, "{answer:#}");
            let marks = case.sh("user", "ls /workspace/marks");
            let preloads: Vec<&str> = marks.lines().collect();
            let own = if user == "root" { "-0" } else { "-1000" };
            assert!(
                preloads.len() == 1 && preloads[0].starts_with("preload-") && preloads[0].ends_with(own),
                "{marks}"
            );
            assert!(!preloads[0].starts_with("preload-1-"), "the agent loaded it");
            // The PATH asked for is the command's: its own `true` is found there.
            case.sh("user", "rm -f /workspace/marks/*");
            let body = json!({"command": "true", "env": {"PATH": "/workspace/bin"}, "user": user});
            assert_eq!(case.run_in(&case.id, &body).expect(200).json()["exit_code"], 0);
            assert_eq!(case.sh("user", "ls /workspace/marks"), "fake-true");
        }
        // The same for the sandbox's own environment, in which everything then runs.
        let id = case.create(json!({"env": env}));
        let answer = case.run_in(&id, &json!({"command": "/usr/bin/env"})).expect(200).json();
        let told = answer["stdout"].as_str().expect("stdout");
        assert!(HOSTILE.iter().all(|(name, value)| told.contains(&format!("{name}={value}\n"))), "{answer:#}");
        case.api("DELETE", &format!("/{id}?force=true"), None).expect(200);
        for bad in ["", "A=B", "A\u{0}B"] {
            let body = json!({"command": "true", "env": {bad: "x"}});
            assert_eq!(case.run_in(&case.id, &body).status, 400, "name {bad:?}");
            assert_eq!(case.api("POST", "", Some(&json!({"env": {bad: "x"}}))).status, 400, "name {bad:?}");
        }
        assert_eq!(case.run_in(&case.id, &json!({"command": "true", "env": {"A": "x\u{0}y"}})).status, 400);
    });
}

#[test]
fn n15_the_servers_own_environment_runs_nothing() {
    if crate::kit::needs_root() {
        return;
    }
    let dir = std::env::temp_dir().join(format!("workspace-fakes-{}", std::process::id()));
    fs::create_dir(&dir).expect("mkdir");
    for fake in FAKES.split(' ') {
        let path = dir.join(fake);
        fs::write(&path, format!("#!/bin/sh\n: > {}/mark-{fake}\nexit 1\n", dir.display())).expect("write a fake");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod");
    }
    let path = format!("{}:/usr/bin:/bin", dir.display());
    let server = Server::builder().env("PATH", &path).env("SECRET_OF_THE_HOST", "host-secret-value").start();
    let id = server.create(json!({}));
    assert_eq!(server.sh(&id, "echo $PATH"), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    let seen = server.sh(&id, "cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n'; env");
    assert!(!seen.contains("host-secret-value") && !seen.contains("SECRET_OF_THE_HOST"));
    let launcher = server.launcher().expect("the launcher");
    let environ = fs::read(format!("/proc/{}/environ", launcher.pid)).expect("its environment");
    assert!(
        !String::from_utf8_lossy(&environ).contains("host-secret-value"),
        "the launcher keeps the server's environment"
    );
    server.delete(&id);
    drop(server);
    let marks: Vec<_> = fs::read_dir(&dir).expect("read").flatten().map(|e| e.file_name()).collect();
    let marks: Vec<_> = marks.iter().filter(|name| name.to_string_lossy().starts_with("mark-")).collect();
    fs::remove_dir_all(&dir).expect("clean up");
    assert!(marks.is_empty(), "run from PATH: {marks:?}");
}
