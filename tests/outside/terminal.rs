//! The terminal page in a real browser: what people see, over reloads, restarts and refusals.

use crate::kit::{Browser, Server, turn};
use serde_json::{Value, json};
use std::net::TcpListener;
use std::path::Path;

/// Each query is one that a terminal answers by input: what it is, where the cursor is, colours, modes, settings, focus.
const QUERIES: &str = r"printf '\033[c\033[>c\033[5n\033[6n\033[?6n\033[?2026$p\033]10;?\007\033]4;1;?\007\033P$qm\033\\\033[?1004h\033[?1004l'";

/// Tells the size once it changes.
const ON_ANOTHER_SIZE: &str =
    r#"trap "echo; echo now \$(stty size); exit" WINCH; echo; echo waiting; while :; do sleep 0.05; done"#;

/// Changes the window; gives the rows and columns that a program is told of. What the page sent before is forgotten.
#[track_caller]
fn told_size(browser: &mut Browser, width: u32, height: u32) -> (u32, u32) {
    browser.enter(&format!("sh -c '{ON_ANOTHER_SIZE}'"));
    browser.shows("\nwaiting");
    browser.sent();
    browser.size(width, height);
    let seen = browser.shows("\nnow ");
    let told = screen(&seen).split("\nnow ").nth(1).expect("the size");
    let mut numbers = told.split_whitespace().map_while(|number| number.parse().ok());
    (numbers.next().expect("rows"), numbers.next().expect("columns"))
}

fn screen(seen: &Value) -> &str {
    seen["screen"].as_str().expect("screen")
}

/// A free port that stays free while nobody listens: none that the kernel gives to connections.
fn lasting_port() -> u16 {
    let first = 20_000 + (std::process::id() % 5_000) as u16;
    (first..first + 1_000).find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a free port")
}

fn on_host(program: &str) -> bool {
    let there = ["/usr/bin", "/bin"].iter().any(|folder| Path::new(folder).join(program).exists());
    if !there {
        println!("skipped: no {program}");
    }
    there
}

#[test]
fn programs_of_the_whole_screen_follow_the_window_and_a_reload_shows_the_same_shell() {
    let _turn = turn::heavy();
    let server = Server::start();
    let Some(mut browser) = Browser::start(&server) else { return };
    let id = server.create(json!({}));
    let url = format!("http://{}/terminal/{id}", server.address());
    assert_eq!(browser.open(&url), 200);
    let seen = browser.says("Connected");
    assert!(seen["title"].as_str().is_some_and(|t| t.contains(&id)), "{seen:#}");
    assert_eq!((&seen["typing"], &seen["overflow"]), (&json!(true), &json!(false)), "{seen:#}");
    browser.enter("kept=4; stty size; echo one-$((kept * 10))");
    browser.shows("one-40");

    browser.enter("seq 1 500 > /workspace/numbers");
    if on_host("less") {
        browser.enter("less /workspace/numbers");
        browser.shows("\n30\n");
        browser.size(700, 400);
        // A terminal that gets smaller loses its first lines; the program shows them again.
        browser.hides("\n30\n");
        browser.shows("1\n2\n3\n");
        browser.press("Shift+G");
        browser.shows("500\n(END)");
        browser.press("q");
        browser.hides("(END)");
        browser.size(1000, 600);
    }
    if on_host("vim.tiny") {
        browser.enter("vim.tiny -u NONE /workspace/note");
        browser.shows("~\n~\n~");
        browser.ask(json!({"do": "type", "text": "iwritten here"}));
        browser.press("Escape");
        browser.enter(":wq");
        browser.hides("~\n~\n~");
        browser.enter("cat /workspace/note");
        browser.shows("\nwritten here\n");
    }
    if on_host("htop") {
        browser.enter("htop");
        let seen = browser.shows("F10Quit");
        assert!(screen(&seen).contains("PID"), "{seen:#}");
        browser.press("F10");
        browser.hides("F10Quit");
    }

    browser.enter("clear; echo before-$((kept + 1))");
    browser.shows("before-5");
    let (rows, cols) = told_size(&mut browser, 500, 400);
    assert!((15..25).contains(&rows) && (45..60).contains(&cols), "of 500x400: {rows} rows, {cols} columns");
    browser.shows("before-5");
    let resizes: Vec<String> = browser.sent().into_iter().filter(|frame| frame.contains("resize")).collect();
    assert_eq!(resizes.len(), 1, "one for the change: {resizes:?}");

    browser.ask(json!({"do": "reload"}));
    browser.says("Connected");
    browser.shows("before-5");
    browser.enter("echo again-$((kept + 2))");
    browser.shows("again-6");
    browser.enter("clear; echo copied''word");
    browser.shows("copiedword\n");
    browser.ask(json!({"do": "doubleClick", "x": 40, "y": 14}));
    browser.press("Control+Shift+C");
    browser.ask(json!({"do": "type", "text": "echo "}));
    browser.press("Control+Shift+V");
    browser.shows("echo copiedword");
    assert_eq!(server.get(&format!("/api/v1/sandboxes/{id}/pty")).json()["ptys"].as_array().map(Vec::len), Some(1));
    browser.assert_content();
}

#[test]
fn the_page_joins_again_after_the_server_was_killed() {
    let _turn = turn::heavy();
    let port = lasting_port();
    let mut server = Server::builder().env("WORKSPACE_HTTP_PORT", &port.to_string()).start();
    let Some(mut browser) = Browser::start(&server) else { return };
    let id = server.create(json!({}));
    browser.open(&format!("http://{}/terminal/{id}", server.address()));
    let bar = browser.says("Connected")["bar"].clone();
    browser.sent();
    browser.enter(&format!("{QUERIES}; read -t 1 -N 999 _; kept=4; echo; echo before-$((kept + 1))"));
    browser.shows("before-5");
    assert!(browser.sent().iter().any(|frame| frame.starts_with("\x1b[?1;2c")), "who asks now is answered");

    server.kill9_all();
    let seen = browser.says("Reconnecting");
    assert!(screen(&seen).contains("before-5"), "the screen stays: {seen:#}");
    assert_eq!((&seen["bar"], &seen["button"]), (&bar, &json!("Retry now")), "nothing moves: {seen:#}");
    server.restart();
    let seen = browser.says("Connected");
    assert_eq!(seen["bar"], bar, "{seen:#}");
    browser.enter("echo after-$((kept + 2))");
    let seen = browser.shows("after-6");
    assert_eq!(screen(&seen).matches("before-5").count(), 1, "nothing is doubled: {seen:#}");
    browser.ask(json!({"do": "reload"}));
    browser.shows("after-6");
    browser.enter("echo quiet-$((kept + 4))");
    let seen = browser.shows("quiet-8");
    assert_eq!(screen(&seen).matches("before-5").count(), 1, "{seen:#}");
    // Who asked before has had its answers: a page that joins later sends keys alone.
    let input: String = browser.sent().into_iter().filter(|frame| !frame.starts_with('{')).collect();
    assert_eq!(input, "echo after-$((kept + 2))\recho quiet-$((kept + 4))\r");

    browser.enter("exit 7");
    let seen = browser.says("exit code 7");
    assert_eq!((&seen["button"], &seen["bar"]), (&json!("New shell"), &bar), "{seen:#}");
    browser.press("Enter");
    browser.says("Connected");
    browser.enter("echo new-${kept:-none}");
    let seen = browser.shows("new-none");
    assert!(!screen(&seen).contains("after-6"), "{seen:#}");
    browser.assert_content();
}

#[test]
fn each_refusal_has_its_message() {
    let _turn = turn::heavy();
    let server = Server::builder().env("WORKSPACE_API_KEYS", "first-key,second-key").start();
    let Some(mut browser) = Browser::start(&server) else { return };
    let keyed = |method: &str, path: &str, body: &[u8]| {
        server.request(method, &format!("/api/v1/sandboxes{path}"), &[("X-API-Key", "first-key")], body)
    };
    let id = keyed("POST", "", b"{}").expect(201).json()["id"].as_str().expect("id").to_owned();
    let url = format!("http://{}/terminal/{id}", server.address());
    assert_eq!(browser.open(&url), 401);
    let seen = browser.says("API key needed");
    assert_eq!((&seen["asks"], &seen["wrong"]), (&json!(true), &json!("")), "{seen:#}");
    browser.enter("no-key");
    let seen = browser.until("wrong", "refused this key");
    assert_eq!((&seen["asks"], &seen["status"]), (&json!(true), &json!("Wrong API key")), "{seen:#}");
    browser.picture("key");
    browser.enter("second-key");
    browser.says("Connected");
    browser.enter("echo in-$((40 + 2))");
    let seen = browser.shows("in-42");
    assert_eq!((&seen["asks"], &seen["typing"]), (&json!(false), &json!(true)), "{seen:#}");
    assert!(!seen["url"].to_string().contains("key"), "{seen:#}");
    assert_eq!(browser.ask(json!({"do": "reload"})), 401);
    browser.shows("in-42");
    assert!(!server.log().contains("second-key"));

    let listed = keyed("GET", &format!("/{id}/pty"), b"").expect(200).json();
    let shell = listed["ptys"][0]["id"].as_str().expect("id").to_owned();
    keyed("DELETE", &format!("/{id}/pty/{shell}"), b"").expect(200);
    browser.until("button", "New shell");
    browser.open(&format!("{url}#pty={shell}"));
    browser.until("notice", "This shell is gone");
    browser.press("Enter");
    browser.says("Connected");

    keyed("DELETE", &format!("/{id}?force=true"), b"").expect(200);
    browser.says("Sandbox not found");
    browser.open(&url);
    let seen = browser.says("Sandbox not found");
    assert!(seen["notice"].as_str().is_some_and(|text| text.contains(&id)), "{seen:#}");

    let foreign = url.replace("127.0.0.1", "workspace.test");
    assert_eq!(browser.open(&foreign), 403);
    browser.until("notice", "Forbidden origin");
    browser.assert_content();
}

#[test]
fn by_day_by_night_and_on_a_small_window() {
    let _turn = turn::heavy();
    let server = Server::start();
    let Some(mut browser) = Browser::start(&server) else { return };
    let id = server.create(json!({}));
    browser.open(&format!("http://{}/terminal/{id}", server.address()));
    browser.says("Connected");
    browser.enter(r"clear; printf '\033[3%dm colour \033[9%dm bright \033[0m\n' 1 1 2 2 3 3 4 4 5 5 6 6; ls --color=always /usr; echo $((1 + 1))-done");
    let seen = browser.shows("2-done");
    assert_eq!(seen["ground"], "rgb(255, 255, 255)");
    browser.picture("light");
    browser.ask(json!({"do": "scheme", "scheme": "dark"}));
    let seen = browser.look();
    assert_eq!(seen["ground"], "rgb(16, 20, 24)");
    browser.picture("dark");
    let (rows, cols) = told_size(&mut browser, 320, 480);
    assert!((20..35).contains(&rows) && (35..45).contains(&cols), "of 320x480: {rows} rows, {cols} columns");
    let seen = browser.look();
    assert_eq!((&seen["overflow"], &seen["status"]), (&json!(false), &json!("Connected")), "{seen:#}");
    browser.picture("small");
    browser.assert_content();
}
