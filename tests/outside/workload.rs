//! Does real work run inside: compilers, git, Python, Node, make, threads, sockets, debuggers?

use crate::kit::{Server, turn};
use serde_json::json;
use std::path::Path;

/// Whether the host has this program where a sandbox can see it; says so when it has not.
fn host_has(program: &str) -> bool {
    let dirs = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    let found = dirs.iter().any(|d| Path::new(d).join(program).exists());
    if !found {
        println!("skipped: this machine has no {program}");
    }
    found
}

#[test]
fn a_c_program_is_compiled_and_run() {
    if !host_has("gcc") {
        return;
    }
    let _turn = turn::heavy();
    let server = Server::start();
    let id = server.create(json!({}));
    server.sh(
        &id,
        "cat >t.c <<'E'\n#include <pthread.h>\n#include <stdio.h>\n#include <math.h>\nstatic void *f(void *p)\
        { *(double *)p = sqrt(*(double *)p); return 0; }\nint main(void) { pthread_t t[8]; double v[8]; double s = 0;\n\
        for (int i = 0; i < 8; i++) { v[i] = i * i; pthread_create(&t[i], 0, f, &v[i]); }\n\
        for (int i = 0; i < 8; i++) { pthread_join(t[i], 0); s += v[i]; }\nprintf(\"%.0f\\n\", s); }\nE",
    );
    assert_eq!(server.sh(&id, "gcc -O1 -Wall -o t t.c -lm -pthread && ./t"), "28");
    assert_eq!(server.sh(&id, "cp t $HOME/t && $HOME/t && cp t /tmp/t && /tmp/t"), "28\n28");
    if host_has("make") {
        let makefile = "all: a b c d e f\n%: t.c\n\tgcc -o $@ t.c -lm -pthread\n";
        let built = format!(
            "mkdir m && cp t.c m && cd m && printf '{}' >Makefile && make -s -j4 && ./f",
            makefile.replace('\n', "\\n").replace('\t', "\\t").replace('%', "%%")
        );
        assert_eq!(server.sh(&id, &built), "28");
    }
    if host_has("gdb") {
        let debug = "gcc -g -o d t.c -lm -pthread && gdb -q -batch -ex 'break main' -ex run -ex 'print 6*7' -ex continue ./d 2>&1";
        let out = server.sh(&id, debug);
        assert!(out.contains("$1 = 42") && out.contains("28"), "gdb works on its own child: {out}");
    }
}

#[test]
fn git_clones_a_local_repository() {
    if !host_has("git") {
        return;
    }
    let server = Server::start();
    let id = server.create(json!({}));
    let script = "git config --global user.email a@example.com && git config --global user.name A && \
        git init -q -b main origin && cd origin && echo one >f && git add f && git commit -q -m first && \
        git checkout -q -b side && echo two >>f && git commit -qam second && cd .. && \
        git clone -q origin copy && cd copy && git log --oneline | wc -l && git checkout -q main && cat f && git status --short";
    assert_eq!(server.sh(&id, script), "2\none");
}

#[test]
fn python_has_a_venv_and_multiprocessing() {
    if !host_has("python3") {
        return;
    }
    let _turn = turn::heavy();
    let server = Server::start();
    let id = server.create(json!({}));
    server.sh(
        &id,
        "python3 -m venv --without-pip v && v/bin/python -c 'import sys; assert sys.prefix == \"/workspace/v\"'",
    );
    server.sh(&id, "cat >mp.py <<'E'\nimport multiprocessing as m, threading, tempfile, sqlite3, ssl, socket\n\
        def f(x, lock, total):\n  with lock: total.value += x\n\
        if __name__ == '__main__':\n  lock, total = m.Lock(), m.Value('i', 0)\n\
        \x20 p = [m.Process(target=f, args=(i, lock, total)) for i in range(5)]\n  [x.start() for x in p]; [x.join() for x in p]\n\
        \x20 with m.Pool(3) as pool: squares = sum(pool.map(abs, range(-9, 1)))\n\
        \x20 q = m.Queue(); m.Process(target=q.put, args=(7,)).start()\n\
        \x20 from multiprocessing import shared_memory\n  s = shared_memory.SharedMemory(create=True, size=64); s.buf[0] = 9; s.close(); s.unlink()\n\
        \x20 db = sqlite3.connect('/workspace/x.db'); db.execute('create table t(a)'); db.commit()\n\
        \x20 print(total.value, squares, q.get())\nE");
    assert_eq!(server.sh(&id, "python3 mp.py"), "10 45 7");
    let threads = "import threading\nn = []\nt = [threading.Thread(target=n.append, args=(i,)) for i in range(100)]\n\
        [x.start() for x in t]; [x.join() for x in t]\nprint(len(n))";
    let answer = server.run(&id, json!({"command": "python3", "args": ["-c", threads]}));
    assert_eq!(answer["stdout"], "100\n", "{answer}");
}

#[test]
fn node_runs() {
    if !host_has("node") {
        return;
    }
    let _turn = turn::heavy();
    let server = Server::start();
    let id = server.create(json!({}));
    let script = "const w = require('worker_threads'), fs = require('fs'), cp = require('child_process'), h = require('http');\n\
        fs.writeFileSync('/workspace/n', 'x'); const t = new w.Worker('require(\"worker_threads\").parentPort.postMessage(5)', {eval: true});\n\
        t.on('message', m => { const s = h.createServer((q, r) => r.end(String(m))).listen(0, '127.0.0.1', () =>\n\
        h.get({port: s.address().port}, r => r.on('data', d => { console.log(d + cp.execSync('echo -n 6')); s.close(); }))); });";
    let answer = server.run(&id, json!({"command": "node", "args": ["-e", script]}));
    assert_eq!((&answer["stdout"], &answer["exit_code"]), (&json!("56\n"), &json!(0)), "{answer}");
}

#[test]
fn shells_and_everyday_tools_run() {
    let server = Server::start();
    let id = server.create(json!({}));
    let bash = r#"set -eo pipefail; a=(1 2 3); echo "${a[@]}" | tr ' ' + | xargs -I{} sh -c 'echo $(( {} ))'; cat <(echo sub) "#;
    let answer = server.run(&id, json!({"command": "bash", "args": ["-c", bash]}));
    assert_eq!(answer["stdout"], "6\nsub\n", "{answer}");
    assert_eq!(server.sh(&id, "mkdir d && echo x >d/f && tar czf d.tgz d && rm -r d && tar xzf d.tgz && cat d/f"), "x");
    assert_eq!(
        server.sh(&id, "seq 1000 | sort -R | sort -n | tail -1 | sed s/0/1/g; find . -name f | wc -l"),
        "1111\n1"
    );
    assert_eq!(
        server.sh(
            &id,
            "mkfifo p && (echo through >p &) && cat p; ln -s d l && readlink l; ln d/f hard && stat -c %h hard"
        ),
        "through\nd\n2"
    );
    assert_eq!(server.sh(&id, "umask; ulimit -c; date -u +%Z; hostname >/dev/null && echo ok"), "0022\n0\nUTC\nok");
}

#[test]
fn the_usual_places_can_be_written_and_read() {
    let server = Server::start();
    let id = server.create(json!({}));
    let script = "for d in /workspace /tmp \"$HOME\" /dev/shm; do echo data >\"$d/file\" && cat \"$d/file\"; done; echo x >/dev/null; \
        head -c 16 /dev/urandom | wc -c; head -c 4 /dev/zero | wc -c; readlink /proc/self/exe >/dev/null && echo self; \
        cat /proc/meminfo | head -1 | cut -d: -f1; test -c /dev/tty && echo tty; ls /dev/fd >/dev/null && echo fd; \
        echo x >/dev/full 2>/dev/null || echo full";
    assert_eq!(server.sh(&id, script), "data\ndata\ndata\ndata\n16\n4\nself\nMemTotal\ntty\nfd\nfull");
    assert_eq!(
        server.sh(&id, "getent hosts localhost | awk '{print $2}'; getent passwd user | cut -d: -f3,6"),
        "localhost\n1000:/home/user"
    );
    assert_eq!(server.sh(&id, "stat -c %a /workspace /tmp /dev/shm $HOME"), "755\n1777\n1777\n700");
    assert_eq!(server.sh(&id, "stat -c %u /workspace $HOME"), "1000\n1000");
    let user = if server.has_root_inside(&id) { "root" } else { "user" };
    let ro = server.run(&id, json!({"command": "touch", "args": ["/usr/bin/x"], "user": user}));
    assert_ne!(ro["exit_code"], 0, "the template is read-only: {ro}");
}

#[test]
fn servers_inside_talk_over_tcp_and_unix_sockets() {
    if !host_has("python3") {
        return;
    }
    let server = Server::start();
    let id = server.create(json!({}));
    let script = "import socket, threading\n\
        def serve(s):\n  c, _ = s.accept(); c.sendall(c.recv(100).upper()); c.close()\n\
        def ask(a, f):\n  c = socket.socket(f); c.connect(a); c.sendall(b'hi'); return c.recv(100)\n\
        for f, a in ((socket.AF_INET, ('127.0.0.1', 8099)), (socket.AF_INET6, ('::1', 8098)), (socket.AF_UNIX, '/tmp/sock'), (socket.AF_UNIX, '\\0abstract')):\n\
        \x20 s = socket.socket(f); s.bind(a); s.listen(); t = threading.Thread(target=serve, args=(s,)); t.start()\n\
        \x20 print(ask(a, f).decode()); t.join()\n";
    let answer = server.run(&id, json!({"command": "python3", "args": ["-c", script]}));
    assert_eq!(answer["stdout"], "HI\nHI\nHI\nHI\n", "{answer}");
    assert_eq!(server.sh(&id, "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '"), "lo", "no other interface");
    let host = server.address();
    let reach =
        format!("python3 -c 'import socket; socket.create_connection((\"{}\", {}), 2)'", host.ip(), host.port());
    let answer = server.run(&id, json!({"command": "sh", "args": ["-c", reach]}));
    assert_ne!(answer["exit_code"], 0, "the host's loopback is not ours");
}

#[test]
fn sizes_inside_follow_the_limits() {
    let server = Server::start();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    for (cpus, expected) in [(0.5, 1), (1.0, 1), (1.5, 2.min(cores)), (1000.0, cores)] {
        let id = server.create(json!({"resources": {"cpus": cpus, "memory_bytes": 134_217_728}}));
        assert_eq!(
            server.sh(&id, "nproc; echo $WORKSPACE_MEMORY_BYTES"),
            format!("{expected}\n134217728"),
            "{cpus} cpus"
        );
        server.delete(&id);
    }
    let id = server.create(json!({}));
    assert_eq!(server.sh(&id, "nproc"), cores.to_string());
}

#[test]
fn nothing_of_the_host_can_be_seen() {
    let server = Server::builder().env("HOST_CANARY", "canary-3141").start();
    let id = server.create(json!({}));
    let data_dir = server.data_dir().display();
    let user = if server.has_root_inside(&id) { "root" } else { "user" };
    let look = |script: &str| {
        let body = json!({"command": "sh", "args": ["-c", script], "user": user});
        server.run(&id, body)["stdout"].as_str().expect("stdout").trim().to_owned()
    };
    assert_eq!(look("ls -A /home"), "user");
    assert_eq!(look("ls -A /root 2>/dev/null"), "");
    assert_eq!(
        look("cat /etc/shadow /etc/gshadow /etc/sudoers 2>/dev/null; ls -A /etc/ssh /etc/ssl/private 2>/dev/null"),
        ""
    );
    assert_eq!(
        look(&format!("ls -d {data_dir} {data_dir}/.. 2>/dev/null")),
        "",
        "the data directory has no name inside"
    );
    assert_eq!(
        look("find / -xdev -type s 2>/dev/null; find / -type s -not -path '/proc/*' 2>/dev/null"),
        "",
        "no socket"
    );
    assert_eq!(
        look("ls -A /sys /boot /srv /mnt /media /run /var/run /var/lib/docker 2>/dev/null | grep -v : | grep ."),
        ""
    );
    assert_eq!(look("cat /proc/[0-9]*/environ | tr '\\0' '\\n' | grep -c canary-3141"), "0");
    let processes = look("ls -d /proc/[0-9]* | wc -l").parse::<u32>().expect("a count");
    assert!(processes < 12, "{processes} processes are seen");
}
