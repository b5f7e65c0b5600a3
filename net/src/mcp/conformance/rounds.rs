//! How does a modern client get asked? By an answer that wants input; the client asks again with it.
//!
//! Nothing is kept here between the rounds: what was said in the earlier ones comes back with the request, signed.

use super::questions::{Question, Reply};
use super::state::{self, Said};
use crate::mcp::Era;
use crate::mcp::message::Fault;
use crate::mcp::methods::invalid_params;
use rmcp::model::{ErrorCode, ErrorData, InputResponses};
use serde_json::{Map, Value, json};

/// What needs one answer only, so that nothing has to be carried.
const WITHOUT_STATE: [&str; 5] = [
    "test_streaming_elicitation",
    "test_input_required_result_elicitation",
    "test_input_required_result_sampling",
    "test_input_required_result_list_roots",
    "test_input_required_result_prompt",
];

/// One call of many that may be needed.
pub(super) struct Asked<'a> {
    /// The tool or prompt.
    pub(super) name: &'a str,
    pub(super) responses: Option<InputResponses>,
    pub(super) state: Option<String>,
    /// What the client says that it can do.
    pub(super) capabilities: &'a Value,
}

/// What becomes of it.
pub(super) enum Round {
    /// Everything was said.
    Done(String),
    /// This result, which wants more.
    Wants(Value),
}

/// What is asked for this name, round by round; `None` where nothing is.
fn questions(name: &str) -> Option<Vec<Vec<Question>>> {
    let user_name = || Question::field("user_name", "What is your name?", "name", "string");
    Some(match name.strip_prefix("test_input_required_result_").unwrap_or(name) {
        "elicitation" | "test_streaming_elicitation" => vec![vec![user_name()]],
        "sampling" => vec![vec![Question::sample("capital_question", "What is the capital of France?")]],
        "list_roots" => vec![vec![Question::roots("client_roots")]],
        "request_state" | "tampered_state" => {
            vec![vec![Question::field("confirm", "Please confirm", "ok", "boolean")]]
        }
        "multiple_inputs" => {
            let greeting = Question::sample("greeting", "Generate a greeting");
            vec![vec![user_name(), greeting, Question::roots("client_roots")]]
        }
        "multi_round" => vec![
            vec![Question::field("step1", "Step 1: What is your name?", "name", "string")],
            vec![Question::field("step2", "Step 2: What is your favorite color?", "color", "string")],
        ],
        "capabilities" => vec![vec![
            Question::field("elicit_input", "Any text", "value", "string"),
            Question::sample("sample_input", "Say anything"),
        ]],
        "prompt" => {
            vec![vec![Question::field("user_context", "What context should the prompt use?", "context", "string")]]
        }
        _ => return None,
    })
}

/// Goes on where the client is; `None` where nothing is asked for this name.
pub(super) fn next(asked: &Asked<'_>) -> Option<Result<Round, Fault>> {
    questions(asked.name).map(|rounds| take(asked, rounds))
}

fn take(asked: &Asked<'_>, rounds: Vec<Vec<Question>>) -> Result<Round, Fault> {
    let carries = !WITHOUT_STATE.contains(&asked.name);
    let mut said = match &asked.state {
        None => Said::new(),
        Some(state) => state::open(asked.name, state)
            .ok_or_else(|| invalid_params("`requestState` is not one that this server gave; call again without it"))?,
    };
    // Where a state is carried, answers without it are to nothing that was asked.
    let responses = asked.responses.as_ref().filter(|_| !carries || asked.state.is_some());
    let only_some = asked.name.ends_with("_capabilities");
    for round in rounds {
        let mut open = Vec::new();
        for question in round {
            let reply = responses.and_then(|responses| responses.get(question.key));
            match reply.and_then(|reply| question.read(reply)) {
                Some(Reply::Said(text)) => {
                    said.insert(question.key.to_owned(), text);
                }
                Some(Reply::Declined) => return Ok(Round::Done("declined".to_owned())),
                None if said.contains_key(question.key) => {}
                None => open.push(question),
            }
        }
        if only_some {
            open.retain(|question| can(asked.capabilities, question));
            if !said.is_empty() {
                open.clear();
            }
        }
        if let Some(question) = open.iter().find(|question| !can(asked.capabilities, question)) {
            return Err(missing(question.capability()));
        }
        if !open.is_empty() {
            return Ok(Round::Wants(wants(asked.name, &open, carries.then_some(&said))));
        }
    }
    Ok(Round::Done(text(asked.name, &said)))
}

fn can(capabilities: &Value, question: &Question) -> bool {
    capabilities[question.capability()].is_object()
}

/// The client did not say that it can do what is needed.
pub(super) fn missing(capability: &str) -> Fault {
    let data = json!({"requiredCapabilities": {capability: {}}});
    let message = format!("this needs a client with the capability {capability}");
    let error = ErrorData::new(ErrorCode::MISSING_REQUIRED_CLIENT_CAPABILITY, message, Some(data));
    Fault { status: 400, id: None, error }
}

fn wants(name: &str, open: &[Question], said: Option<&Said>) -> Value {
    let request = |question: &Question| json!({"method": question.method, "params": question.params});
    let requests: Map<String, Value> = open.iter().map(|one| (one.key.to_owned(), request(one))).collect();
    let mut result = json!({"resultType": "input_required", "inputRequests": requests, "_meta": Era::Modern.meta()});
    if let Some(said) = said {
        result["requestState"] = state::seal(name, said).into();
    }
    result
}

fn text(name: &str, said: &Said) -> String {
    let all = || said.iter().map(|(key, text)| format!("{key}: {text}")).collect::<Vec<String>>().join(", ");
    match (name.rsplit_once('_').map(|(_, last)| last), said.get("user_name")) {
        (Some("elicitation"), Some(name)) => format!("Hello, {name}!"),
        (Some("state"), _) => format!("state-ok, {}", all()),
        _ => all(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(name: &str, responses: Value, state: Option<&str>) -> Result<Round, Fault> {
        let responses = serde_json::from_value(responses).unwrap();
        let capabilities = json!({"elicitation": {}, "roots": {}});
        let state = state.map(str::to_owned);
        next(&Asked { name, responses, state, capabilities: &capabilities }).unwrap()
    }

    fn wanted(round: Result<Round, Fault>) -> (Vec<String>, String) {
        let Ok(Round::Wants(result)) = round else { panic!("wants nothing") };
        let keys = result["inputRequests"].as_object().unwrap().keys().cloned().collect();
        (keys, result["requestState"].as_str().unwrap_or_default().to_owned())
    }

    #[test]
    fn rounds_follow_each_other_and_the_client_carries_what_was_said() {
        const NAME: &str = "test_input_required_result_multi_round";
        let accept = |key: &str, field: &str, text: &str| json!({key: {"action": "accept", "content": {field: text}}});
        let (first, state) = wanted(ask(NAME, Value::Null, None));
        assert_eq!(first, ["step1"]);
        assert_eq!(wanted(ask(NAME, accept("step1", "name", "Ada"), None)).0, ["step1"], "without its state");
        let (second, state) = wanted(ask(NAME, accept("step1", "name", "Ada"), Some(&state)));
        assert_eq!(second, ["step2"]);
        assert_eq!(wanted(ask(NAME, json!({"step2": 1}), Some(&state))).0, ["step2"]);
        let Ok(Round::Done(text)) = ask(NAME, accept("step2", "color", "red"), Some(&state)) else {
            panic!("not done")
        };
        assert_eq!(text, "step1: Ada, step2: red");
        let fault = ask(NAME, Value::Null, Some(&format!("{state}x"))).err().unwrap();
        assert_eq!(fault.error.code, ErrorCode::INVALID_PARAMS);
    }

    #[test]
    fn a_client_is_asked_what_it_can_answer() {
        let fault = ask("test_input_required_result_sampling", Value::Null, None).err().unwrap();
        assert_eq!((fault.status, fault.error.code), (400, ErrorCode::MISSING_REQUIRED_CLIENT_CAPABILITY));
        assert_eq!(wanted(ask("test_input_required_result_capabilities", Value::Null, None)).0, ["elicit_input"]);
        let declined = json!({"user_name": {"action": "decline"}});
        let Ok(Round::Done(text)) = ask("test_input_required_result_elicitation", declined, None) else { panic!() };
        assert_eq!(text, "declined");
    }
}
