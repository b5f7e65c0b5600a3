//! Files over HTTP: every operation and every option, seen from both sides, as root and as an ordinary user.

use crate::kit::{Response, Server, is_root};
use serde_json::{Value, json};

const BYTES: (&str, &str) = ("Content-Type", "application/octet-stream");
const RAW: (&str, &str) = ("Accept", "application/octet-stream");
/// A numeric id that no passwd file names.
const THROW_AWAY_UID: u32 = 54_321;

/// What the tests ask of one sandbox's files.
pub(crate) struct Files<'a> {
    pub(crate) server: &'a Server,
    pub(crate) id: String,
}

impl<'a> Files<'a> {
    pub(crate) fn new(server: &'a Server) -> Files<'a> {
        Files { server, id: server.create(json!({})) }
    }

    pub(crate) fn route(&self, rest: &str) -> String {
        format!("/api/v1/sandboxes/{}{rest}", self.id)
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str, headers: &[(&str, &str)]) -> Response {
        self.server.request("GET", &self.route(&format!("/files?path={}", escape(path))), headers, b"")
    }

    #[track_caller]
    pub(crate) fn put(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        let headers: Vec<(&str, &str)> = headers.iter().copied().chain([BYTES]).collect();
        self.server.request("PUT", &self.route(&format!("/files?path={}", escape(path))), &headers, body)
    }

    #[track_caller]
    pub(crate) fn info(&self, path: &str) -> Response {
        self.server.get(&self.route(&format!("/files/info?path={}", escape(path))))
    }

    #[track_caller]
    pub(crate) fn remove(&self, path: &str, recursive: bool) -> Response {
        let rest = format!("/files?path={}&recursive={recursive}", escape(path));
        self.server.request("DELETE", &self.route(&rest), &[], b"")
    }

    #[track_caller]
    pub(crate) fn post(&self, what: &str, body: Value) -> Response {
        self.server.post(&self.route(&format!("/files/{what}")), &body)
    }

    #[track_caller]
    pub(crate) fn list(&self, query: &str) -> Value {
        self.server.get(&self.route(&format!("/files/list?{query}"))).expect(200).json()
    }

    #[track_caller]
    pub(crate) fn sh(&self, script: &str) -> String {
        self.server.sh(&self.id, script)
    }
}

/// Each byte that is not plain as `%XX`.
pub(crate) fn escape(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-~".contains(&b);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// Runs a test as the user that runs the tests, and where that is root on a disk that can't be idmapped and as an
/// ordinary user too.
pub(crate) fn as_everyone(test: impl Fn(&Server)) {
    test(&Server::start());
    if is_root() {
        test(&Server::builder().on_overlay().start());
        match Server::builder().user(THROW_AWAY_UID).try_start() {
            Ok(server) => test(&server),
            Err(_) => println!("skipped as an ordinary user: this machine forbids user namespaces to them"),
        }
    }
}

#[test]
fn what_is_written_is_read_on_both_sides_and_is_the_users() {
    as_everyone(|server| {
        let files = Files::new(server);
        let put = files.put("a/b/f.bin", &[], b"\0\xff bytes").expect(200).json();
        assert_eq!((&put["success"], &put["path"]), (&json!(true), &json!("/workspace/a/b/f.bin")));
        assert_eq!(
            files.sh("stat -c '%a %u %g %U' a a/b a/b/f.bin | tr '\\n' ';'; od -An -tx1 a/b/f.bin"),
            "755 1000 1000 user;755 1000 1000 user;644 1000 1000 user; 00 ff 20 62 79 74 65 73"
        );
        assert_eq!(files.get("a/b/f.bin", &[RAW]).expect(200).body, b"\0\xff bytes");
        let json_put = json!({"content": "é text\n"});
        let path = files.route("/files?path=/workspace/t");
        server.request("PUT", &path, &[], json_put.to_string().as_bytes()).expect(200);
        let got = files.get("t", &[]).expect(200).json();
        assert_eq!((&got["content"], &got["encoding"], &got["size"]), (&json!("é text\n"), &json!("utf8"), &json!(8)));
        files.sh("printf 'from inside' >inside; chmod 600 inside; echo x >$HOME/in-home");
        assert_eq!(files.get("/workspace/inside", &[]).expect(200).json()["content"], "from inside");
        assert_eq!(files.get("/home/user/in-home", &[]).expect(200).json()["content"], "x\n");
        files.put("/home/user/.config/x", &[], b"1").expect(200);
        assert_eq!(files.sh("cat ~/.config/x; stat -c %u ~/.config"), "11000");
    });
}

#[test]
fn the_old_clients_names_work_too() {
    let server = Server::start();
    let files = Files::new(&server);
    let post = |what: &str, body: Value| server.post(&files.route(&format!("/fs/{what}")), &body);
    post("write", json!({"path": "/workspace/w", "content": "w"})).expect(200);
    assert_eq!(server.get(&files.route("/fs/read?path=/workspace/w")).expect(200).json()["content"], "w");
    post("mkdir", json!({"path": "/workspace/d/e", "recursive": true})).expect(200);
    post("copy", json!({"src": "w", "dst": "d/c"})).expect(200);
    post("move", json!({"source": "d/c", "destination": "d/m"})).expect(200);
    let stat = server.get(&files.route("/fs/stat?path=d/m")).expect(200).json();
    assert_eq!((&stat["name"], &stat["type"], &stat["size"]), (&json!("m"), &json!("file"), &json!(1)));
    let list = server.get(&files.route("/fs/list?path=/workspace/d")).expect(200).json();
    assert_eq!(list["files"].as_array().map(Vec::len), Some(2));
    server.request("DELETE", &files.route("/fs/delete?path=/workspace/d&recursive=true"), &[], b"").expect(200);
    files.info("d").expect_error(404, 3001);
}

#[test]
fn an_entry_is_shown_as_it_is_inside() {
    let server = Server::start();
    let files = Files::new(&server);
    files.sh("echo hello >f; chmod 640 f; touch -d 2001-02-03T04:05:06Z f; ln -s f link; ln -s /nowhere dangling; mkdir d; mkfifo p");
    let f = files.info("f").expect(200).json();
    assert_eq!(
        f,
        json!({"name": "f", "path": "/workspace/f", "type": "file", "size": 6, "mode": "0640", "owner": "user",
        "group": "user", "modified_at": f["mod_time"], "mod_time": f["mod_time"], "symlink_target": null, "is_dir": false})
    );
    assert!(f["mod_time"].as_str().is_some_and(|time| time.starts_with("2001-02-03T04:05:06")), "{f}");
    let link = files.info("link").expect(200).json();
    assert_eq!((&link["type"], &link["symlink_target"]), (&json!("symlink"), &json!("f")));
    assert_eq!(files.info("dangling").expect(200).json()["symlink_target"], "/nowhere");
    let kinds = |path: &str| files.info(path).expect(200).json()["type"].as_str().map(str::to_owned);
    assert_eq!(
        (kinds("d"), kinds("p"), kinds("/workspace")),
        (Some("directory".into()), Some("other".into()), Some("directory".into()))
    );
    if server.has_root_inside(&files.id) {
        server.run(&files.id, json!({"command": "sh", "args": ["-c", "touch r; chown 33:0 r"], "user": "root"}));
        let r = files.info("r").expect(200).json();
        assert_eq!((&r["owner"], &r["group"]), (&json!("33"), &json!("root")));
    }
}

#[test]
fn refusals_name_their_reason() {
    as_everyone(|server| {
        let files = Files::new(server);
        files.sh("mkdir -p d/e; echo x >f; mkfifo p; ln -s loop loop; ln -s /tmp out");
        for (path, status, code) in [
            ("missing", 404, 3001),
            ("f/x", 400, 3005),
            ("f/", 400, 3005),
            ("d", 400, 3007),
            ("p", 400, 3004),
            ("loop", 400, 3004),
            ("out", 400, 3007),
            ("", 400, 3004),
            ("~/x", 404, 3001),
        ] {
            files.get(path, &[]).expect_error(status, code);
            files.get(path, &[RAW]).expect_error(status, code);
            let (status, code) = if matches!(path, "missing" | "~/x") { (200, 0) } else { (status, code) };
            let put = files.put(path, &[], b"y");
            match status {
                200 => drop(put.expect(200)),
                // A file that is asked for as a directory is one to a writer.
                400 if path == "f/" => drop(put.expect_error(400, 3007)),
                _ => drop(put.expect_error(status, code)),
            }
        }
        files.get(&"x".repeat(256), &[]).expect_error(400, 3004);
        files.put(&"x".repeat(255), &[], b"").expect(200);
        files.get(&"x/".repeat(2100), &[]).expect_error(400, 3004);
        server.get(&files.route("/files?path=a%00b")).expect_error(400, 1001);
        server.get(&files.route("/files?path=a%252e%252e")).expect_error(404, 3001);
        server.get(&files.route("/files?path=%2e%2e%2fno/such")).expect_error(404, 3001);
        server.get(&files.route("/files")).expect_error(400, 1001);
        files.post("mkdir", json!({"path": "d"})).expect_error(409, 3002);
        files.post("mkdir", json!({"path": "new/er"})).expect_error(404, 3001);
        files.post("mkdir", json!({"path": "f/x", "recursive": true})).expect_error(400, 3005);
        files.post("mkdir", json!({"path": "d", "recursive": true})).expect(200);
        files.post("move", json!({"source": "missing2", "destination": "x"})).expect_error(404, 3001);
        files.post("move", json!({"source": "f", "destination": "d"})).expect_error(409, 3002);
        files.post("move", json!({"source": "f", "destination": "d", "overwrite": true})).expect_error(400, 3007);
        files.post("move", json!({"source": "d", "destination": "d/e/in"})).expect_error(400, 3004);
        files.post("move", json!({"source": "f", "destination": "no/such"})).expect_error(404, 3001);
        files.post("copy", json!({"source": "d", "destination": "d/e/in"})).expect_error(400, 3004);
        files.post("copy", json!({"source": "d", "destination": "d", "overwrite": true})).expect_error(400, 3004);
        files.post("copy", json!({"source": "p", "destination": "q"})).expect_error(400, 3004);
        files.post("copy", json!({"source": "f", "destination": "d"})).expect_error(409, 3002);
        files.remove("d", false).expect_error(400, 3006);
        files.remove("missing2", true).expect_error(404, 3001);
        files.remove("/workspace", true).expect_error(400, 3004);
        files.remove("/", true).expect_error(400, 3004);
        files.remove("loop", false).expect(200);
        assert_eq!(files.sh("ls -d p d/e"), "d/e\np");
    });
}

#[test]
fn links_lead_where_they_lead_inside() {
    as_everyone(|server| {
        let files = Files::new(server);
        files.sh("mkdir -p d/e; echo in >d/e/f; ln -s /workspace/d abs; ln -s d/../d/./e rel; ln -s ../home/user/h cross; \
            echo home >~/h; ln -s /home/user/../user/h far; ln -s /workspace/new dangling; ln -s abs chain; ln -s / root");
        for path in ["abs/e/f", "rel/f", "d/e/../e/f", "chain/e/f", "root/workspace/d/e/f", "rel/../e/f"] {
            assert_eq!(files.get(path, &[]).expect(200).json()["content"], "in\n", "{path}");
        }
        for path in ["cross", "far", "root/home/user/h", "/home/user/h", "../home/user/h"] {
            assert_eq!(files.get(path, &[]).expect(200).json()["content"], "home\n", "{path}");
        }
        files.put("dangling", &[], b"through").expect(200);
        assert_eq!(files.sh("cat new; readlink dangling"), "through/workspace/new");
        files.put("chain/e/f", &[], b"changed").expect(200);
        assert_eq!(files.sh("cat d/e/f; test -L chain && test -L abs && echo links"), "changedlinks");
        assert_eq!(files.list("path=chain/e")["files"][0]["path"], "/workspace/chain/e/f");
        files.remove("abs", true).expect(200);
        assert_eq!(files.sh("cat d/e/f"), "changed", "a link is removed itself");
    });
}

#[test]
fn names_that_are_not_utf8_come_and_go() {
    let server = Server::start();
    let files = Files::new(&server);
    files.sh("printf one >\"$(printf 'caf\\351')\"; mkdir \"$(printf 'd\\377')\"; touch \"$(printf 'd\\377')/$(printf 'new\\nline')\"");
    let listed = files.list("depth=2");
    let paths: Vec<&str> =
        listed["files"].as_array().expect("files").iter().map(|f| f["path"].as_str().expect("path")).collect();
    assert_eq!(paths, ["/workspace/caf\u{10efe9}", "/workspace/d\u{10efff}", "/workspace/d\u{10efff}/new\nline"]);
    assert_eq!(files.get(paths[0], &[]).expect(200).json()["content"], "one");
    files.post("move", json!({"source": paths[0], "destination": format!("{}/x\u{10ef80}", paths[1])})).expect(200);
    assert_eq!(files.sh("cat \"$(printf 'd\\377/x\\200')\""), "one");
    files.remove(paths[1], true).expect(200);
    assert_eq!(files.sh("ls -A"), "");
}

#[test]
fn a_large_directory_is_listed_in_pages() {
    let server = Server::start();
    let files = Files::new(&server);
    files.sh("mkdir big; cd big; seq -w 1 25000 | xargs touch");
    let (mut all, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = files.list(&format!("path=big&limit=10000{cursor}"));
        let names =
            page["files"].as_array().expect("files").iter().map(|f| f["name"].as_str().expect("name").to_owned());
        all.extend(names);
        pages += 1;
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!((all.len(), pages), (25_000, 3));
    assert!(all.is_sorted());
    for bad in ["depth=-1", "depth=0", "depth=4294967296", "depth=65", "limit=0", "limit=10001", "cursor=%21"] {
        let answer = server.get(&files.route(&format!("/files/list?path=big&{bad}")));
        assert_eq!(answer.status, 400, "{bad}: {}", answer.text());
        answer.assert_error_form();
    }
    server.get(&files.route("/files/list?path=big/00001")).expect_error(400, 3005);
    files.remove("big", true).expect(200);
    assert_eq!(files.list("")["files"], json!([]));
}

#[test]
fn a_copy_is_whole_and_the_users() {
    as_everyone(|server| {
        let files = Files::new(server);
        files.sh("mkdir -p s/d/deep; echo 1 >s/a; echo 2 >s/d/b; ln -s ../a s/d/link; mkfifo s/p; chmod 700 s/d; printf '#!/bin/sh\\necho ran' >s/x; \
            chmod 755 s/x; truncate -s 1G s/sparse; echo end >>s/sparse; chmod 4711 s/a");
        files.post("copy", json!({"source": "s", "destination": "t"})).expect(200);
        let seen = "cd t; find . -printf '%p %y %m %u %l\\n' | sort; ./x; stat -c '%s %b' sparse | awk '{print $1, ($2 < 2048)}'; tail -c 4 sparse";
        let expected = [
            ". d 755 user ",
            "./a f 711 user ",
            "./d d 700 user ",
            "./d/b f 644 user ",
            "./d/deep d 755 user ",
            "./d/link l 777 user ../a",
            "./sparse f 644 user ",
            "./x f 755 user ",
            "ran",
            "1073741828 1",
            "end",
        ];
        assert_eq!(files.sh(seen), expected.join("\n"));
        files.post("copy", json!({"source": "s/a", "destination": "t/a"})).expect_error(409, 3002);
        files.post("copy", json!({"source": "s/d/b", "destination": "t/a", "overwrite": true})).expect(200);
        assert_eq!(files.sh("cat t/a"), "2");
        files.post("copy", json!({"source": "s", "destination": "t", "overwrite": true})).expect_error(400, 3006);
        files.post("copy", json!({"source": "s", "destination": "/home/user/s"})).expect(200);
        files.post("move", json!({"source": "/home/user/s", "destination": "/workspace/back"})).expect(200);
        assert_eq!(files.sh("cat back/d/b; ls ~"), "2");
    });
}

#[test]
fn every_field_tried_wrong() {
    let server = Server::start();
    let files = Files::new(&server);
    let put = |query: &str| server.request("PUT", &files.route(&format!("/files?{query}")), &[BYTES], b"x");
    for (query, status, code) in [
        ("path=f&mode=0177777", 400, 1002),
        ("path=f&mode=rw", 400, 1002),
        ("path=f&mode=", 400, 1002),
        ("path=f&append=yes", 400, 1001),
        ("path=f&path=g", 400, 1001),
        ("path=f&content=y", 400, 1002),
        ("path=f&encoding=latin1", 400, 1002),
        ("mode=644", 400, 1001),
    ] {
        put(query).expect_error(status, code);
    }
    let path = files.route("/files?path=f");
    let json_put = |body: &str| server.request("PUT", &path, &[], body.as_bytes());
    json_put("{}").expect_error(400, 1001);
    json_put("{\"content\":1}").expect_error(400, 1001);
    json_put("{\"content\":\"a\",\"path\":\"g\"}").expect_error(400, 1001);
    json_put("{\"content\":\"a\",\"encoding\":\"base64\"}").expect_error(400, 1002);
    json_put("{\"content\":\"YQ==\",\"encoding\":\"base64\",\"mode\":\"0600\",\"append\":false}").expect(200);
    assert_eq!(files.sh("cat f; stat -c %a f"), "a600");
    server.request("PUT", &path, &[("Content-Type", "text/plain")], b"x").expect_error(415, 1001);
    server.request("PUT", &path, &[BYTES, ("Content-Encoding", "gzip")], b"x").expect_error(415, 1001);
    server.request("PUT", &path, &[BYTES, ("If-Match", "unquoted")], b"x").expect_error(400, 1001);
    put("path=f&mode=06777").expect(200);
    assert_eq!(files.sh("stat -c %a f; cat f"), "777\nx", "no file gets setuid, setgid or sticky");
    put("path=f&append=true").expect(200);
    assert_eq!(files.sh("cat f; stat -c %a f"), "xx777");
    let nobody = format!("/api/v1/sandboxes/{}/files/list", "a".repeat(32));
    server.get(&nobody).expect_error(404, 2001);
    files.get("/workspace/missing", &[("Range", "bytes=0-")]).expect_error(404, 3001);
}
