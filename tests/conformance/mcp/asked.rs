//! Is a client asked as it must be? What the suite does not try: clients that cannot answer, answer too often, for
//! others, or go; crowds; and states that are not ours.

use crate::kit::{Event, Events, Mcp, Server, modern};
use crate::program;
use serde_json::{Value, json};

fn server() -> Server {
    Server::builder().program(program::built()).start()
}

fn session<'a>(server: &'a Server, capabilities: Value) -> Mcp<'a> {
    Mcp::begin_able(server, "conformance", "2025-11-25", &[], capabilities)
}

/// Calls a tool, and leaves its stream open.
#[track_caller]
fn call(session: &Mcp<'_>, id: u64, tool: &str, arguments: Value) -> Events {
    let params = json!({"name": tool, "arguments": arguments});
    let request = json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params});
    Events::of(session.begin_request(&request)).unwrap_or_else(|answer| panic!("no stream: {answer:?}"))
}

#[track_caller]
fn next(events: &mut Events) -> Value {
    let event: Event = events.next().expect("an event");
    serde_json::from_str(&event.data).expect("JSON")
}

fn text(message: &Value) -> (&str, bool) {
    let result = &message["result"];
    (result["content"][0]["text"].as_str().unwrap_or_default(), result["isError"] == true)
}

fn sampled(id: &Value, said: &str) -> Value {
    let content = json!({"type": "text", "text": said});
    json!({"jsonrpc": "2.0", "id": id, "result": {"role": "assistant", "model": "m", "content": content}})
}

#[test]
fn an_answer_reaches_who_asked_and_nobody_else() {
    let server = server();
    let (one, other) = (session(&server, json!({"sampling": {}})), session(&server, json!({"sampling": {}})));
    let (mut first, mut second) = (
        call(&one, 1, "test_sampling", json!({"prompt": "first?"})),
        call(&other, 1, "test_sampling", json!({"prompt": "second?"})),
    );
    let (asked_first, asked_second) = (next(&mut first), next(&mut second));
    assert_eq!(asked_first["method"], "sampling/createMessage");
    assert_eq!(asked_first["params"]["messages"][0]["content"]["text"], "first?");
    // Both sessions count for themselves, so that the other's answer has the same id.
    assert_eq!(asked_first["id"], asked_second["id"]);
    other.send(&sampled(&asked_second["id"], "of the other")).expect(202);
    assert_eq!(text(&next(&mut second)), ("LLM response: of the other", false));
    // Nobody waits for these any more, or ever did.
    for id in [asked_second["id"].clone(), json!(77), json!("1"), Value::Null] {
        let status = other.send(&sampled(&id, "again")).status;
        assert_eq!(status, if id.is_null() { 400 } else { 202 }, "{id}");
    }
    one.send(&sampled(&asked_first["id"], "of the first")).expect(202);
    assert_eq!(text(&next(&mut first)), ("LLM response: of the first", false));
    assert!(first.next().is_none() && second.next().is_none(), "the answer is the last");
}

#[test]
fn a_client_that_cannot_answer_is_not_asked() {
    let server = server();
    let mut unable = session(&server, json!({"elicitation": {}}));
    let refused = unable.call("test_sampling", json!({"prompt": "?"}));
    assert_eq!(refused["isError"], true);
    assert!(refused["content"][0]["text"].as_str().unwrap().contains("cannot answer sampling/createMessage"));
    // One that takes JSON alone has no stream to be asked on.
    let request = json!({"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": {
        "name": "test_elicitation", "arguments": {"message": "?"}}});
    let fields = [("accept", "application/json"), ("mcp-session-id", unable.id.as_str())];
    let answer = server.request("POST", "/mcp/conformance", &fields, request.to_string().as_bytes()).expect(200);
    assert!(text(&answer.json()).1 && text(&answer.json()).0.contains("text/event-stream"), "{answer:?}");
}

#[test]
fn wrong_answers_are_said_and_end_the_call() {
    let server = server();
    let session = session(&server, json!({"elicitation": {}}));
    let refused = json!({"error": {"code": -1, "message": "no user here"}});
    let accepted = |content: Value| json!({"result": {"action": "accept", "content": content}});
    let answers = [
        (refused, "no user here", true),
        (accepted(json!({"username": 1, "email": "a@b"})), "this answers no elicitation/create", true),
        (accepted(json!({})), "this answers no elicitation/create", true),
        (json!({"result": {"action": "decline"}}), "User response: declined", false),
        (accepted(json!({"username": "Ada", "email": "a@b"})), "Ada", false),
    ];
    // An id is used once in a session.
    for (id, (answer, part, is_error)) in (1..).zip(answers) {
        let mut events = call(&session, id, "test_elicitation", json!({"message": "?"}));
        let mut answer = answer;
        (answer["jsonrpc"], answer["id"]) = (json!("2.0"), next(&mut events)["id"].clone());
        session.send(&answer).expect(202);
        let last = next(&mut events);
        assert!(text(&last).0.contains(part) && text(&last).1 == is_error, "{answer}: {last}");
    }
}

#[test]
fn questions_are_bounded_and_end_with_their_calls() {
    let server = server();
    let session = session(&server, json!({"sampling": {}}));
    let begin = |id| {
        let mut events = call(&session, id, "test_sampling", json!({"prompt": "?"}));
        (next(&mut events), events)
    };
    let mut open: Vec<_> = (0..16).map(begin).collect();
    assert!(open.iter().all(|(message, _)| message["method"] == "sampling/createMessage"));
    let (refused, _) = begin(16);
    assert_eq!(text(&refused), ("too many questions are open", true));
    // One is canceled, one client goes: each makes room.
    session.send(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 0}}));
    assert!(open.remove(0).1.next().is_none(), "nothing answers what was canceled");
    open.pop();
    let mut ids = 20..;
    let again = crate::kit::until_some("there is room", 10, || {
        let (message, events) = begin(ids.next().expect("an id"));
        (message["method"] == "sampling/createMessage").then_some(events)
    });
    drop((open, again));
    assert_eq!(session.end().status, 204);
}

#[test]
fn a_crowd_is_asked_at_once_on_all_cores() {
    let server = server();
    std::thread::scope(|scope| {
        for crowd in 0..4 {
            let server = &server;
            scope.spawn(move || {
                for number in 0..25 {
                    let session = session(server, json!({"sampling": {}}));
                    let prompt = format!("{crowd}-{number}");
                    let mut events = call(&session, 1, "test_sampling", json!({"prompt": prompt}));
                    let asked = next(&mut events);
                    let said =
                        asked["params"]["messages"][0]["content"]["text"].as_str().expect("the prompt").to_owned();
                    session.send(&sampled(&asked["id"], &said)).expect(202);
                    assert_eq!(text(&next(&mut events)).0, format!("LLM response: {prompt}"));
                    assert_eq!(session.end().status, 204);
                }
            });
        }
    });
}

#[test]
fn a_stream_that_the_server_ends_is_come_back_to() {
    let server = server();
    let one = session(&server, json!({}));
    let mut events = call(&one, 9, "test_reconnection", json!({}));
    let first = events.next().expect("a mark");
    assert_eq!((first.data.as_str(), first.other_lines.as_slice()), ("", &["retry: 100".to_owned()][..]));
    assert!(!first.id.is_empty() && events.next().is_none(), "it ends before it answers");
    let resume = |session: &str| {
        let fields = [("accept", "text/event-stream"), ("mcp-session-id", session), ("last-event-id", &*first.id)];
        server.try_events("GET", "/mcp/conformance", &fields, b"").expect("a stream")
    };
    let mut rest = resume(&one.id);
    let last = rest.next().expect("the answer");
    let message: Value = serde_json::from_str(&last.data).expect("JSON");
    assert!(message["id"] == 9 && last.id != first.id && rest.next().is_none(), "{last:?}");
    assert_eq!(resume(&one.id).next().expect("once more").data, last.data);
    // Another's session has none of it: there it is a stream of what that one is told, and nothing is.
    let other = session(&server, json!({}));
    let mut strange = resume(&other.id);
    assert_eq!(other.end().status, 204);
    assert!(strange.next().is_none());
}

#[test]
fn what_a_client_carries_is_believed_where_it_is_ours() {
    let server = server();
    let ask = |tool: &str, more: Value| {
        let mut params = json!({"name": tool, "arguments": {}});
        params.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let (mut message, fields) = modern("tools/call", params);
        let able = json!({"elicitation": {}, "sampling": {}, "roots": {}});
        message["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"] = able;
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        server.request("POST", "/mcp/conformance", &fields, message.to_string().as_bytes()).json()
    };
    const ROUNDS: &str = "test_input_required_result_multi_round";
    let state = |answer: &Value| answer["result"]["requestState"].as_str().expect("a state").to_owned();
    let accept = |key: &str, field: &str| json!({key: {"action": "accept", "content": {field: "x"}}});
    let first = state(&ask(ROUNDS, json!({})));
    let second = ask(ROUNDS, json!({"requestState": first, "inputResponses": accept("step1", "name")}));
    assert!(second["result"]["inputRequests"]["step2"].is_object(), "{second}");
    let done = ask(ROUNDS, json!({"requestState": state(&second), "inputResponses": accept("step2", "color")}));
    assert_eq!((text(&done).0, &done["result"]["resultType"]), ("step1: x, step2: x", &json!("complete")));
    // A state of another tool, one that is cut, and one that was never given.
    for wrong in [state(&ask("test_input_required_result_request_state", json!({}))), first[1..].to_owned(), "x".into()]
    {
        let answer = ask(ROUNDS, json!({"requestState": wrong, "inputResponses": accept("step2", "color")}));
        assert_eq!(answer["error"]["code"], -32602, "{answer}");
    }
    // What asks a session is not for clients without one, and the other way round.
    assert_eq!(ask("test_sampling", json!({}))["error"]["code"], -32602);
    let mut session = session(&server, json!({"elicitation": {}}));
    let answer = session.ask("tools/call", json!({"name": ROUNDS, "arguments": {}}));
    assert_eq!(answer["error"]["code"], -32602);
}
