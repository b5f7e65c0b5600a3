//! Which prompts does the suite get, and how are their arguments completed?

use super::content;
use crate::mcp::Era;
use rmcp::model::{
    ArgumentInfo, CompletionInfo, ContentBlock, GetPromptResult, JsonObject, Prompt, PromptArgument, PromptMessage,
    Reference, Role,
};

/// The one that asks its user first. Modern only.
pub(super) const ASKS: &str = "test_input_required_result_prompt";

/// Name, what it is, and its arguments, all of which are required.
const ROWS: &[(&str, &str, &[&str])] = &[
    ("test_simple_prompt", "A prompt without arguments.", &[]),
    ("test_prompt_with_arguments", "A prompt with two arguments.", &["arg1", "arg2"]),
    ("test_prompt_with_embedded_resource", "A prompt that holds a resource.", &["resourceUri"]),
    ("test_prompt_with_image", "A prompt that holds an image.", &[]),
    (ASKS, "A prompt that asks its user first.", &[]),
];
/// Completions of any argument.
const WORDS: &[&str] = &["paris", "park", "party"];

/// Those of this era.
pub(super) fn listed(era: Era) -> Vec<Prompt> {
    let rows = ROWS.iter().filter(|(name, ..)| era == Era::Modern || *name != ASKS);
    let argument = |name: &&str| PromptArgument::new(*name).with_description("Any text.").with_required(true);
    rows.map(|(name, about, arguments)| {
        Prompt::new(*name, Some(*about), Some(arguments.iter().map(argument).collect()))
    })
    .collect()
}

/// A prompt, or what is wrong with what was asked.
pub(super) fn get(name: &str, arguments: &JsonObject) -> Result<GetPromptResult, String> {
    let Some((_, _, required)) = ROWS.iter().find(|row| row.0 == name) else {
        return Err("no such prompt".to_owned());
    };
    let argument = |name: &str| arguments.get(name).and_then(|value| value.as_str());
    if let Some(missing) = required.iter().find(|name| argument(name).is_none()) {
        return Err(format!("`arguments.{missing}` must be a text"));
    }
    let argument = |name: &str| argument(name).unwrap_or_default();
    let content = match name {
        "test_prompt_with_arguments" => {
            let text = format!("Prompt with arguments: arg1='{}', arg2='{}'", argument("arg1"), argument("arg2"));
            vec![ContentBlock::text(text)]
        }
        "test_prompt_with_embedded_resource" => vec![
            content::resource(argument("resourceUri"), "text/plain", "Embedded resource content for testing."),
            ContentBlock::text("Please process the embedded resource above."),
        ],
        "test_prompt_with_image" => vec![content::image(), ContentBlock::text("Please analyze the image above.")],
        _ => vec![ContentBlock::text("This is a simple prompt for testing.")],
    };
    Ok(told(content))
}

/// A prompt of a user who says this.
pub(super) fn told(content: Vec<ContentBlock>) -> GetPromptResult {
    GetPromptResult::new(content.into_iter().map(|one| PromptMessage::new(Role::User, one)).collect())
}

/// How an argument may go on.
pub(super) fn complete(of: &Reference, argument: &ArgumentInfo) -> Result<CompletionInfo, String> {
    match of {
        Reference::Prompt(prompt) => {
            let row = ROWS.iter().find(|row| row.0 == prompt.name).ok_or("no such prompt")?;
            row.2.contains(&argument.name.as_str()).then_some(()).ok_or("the prompt has no such argument")?;
        }
        Reference::Resource(_) if argument.name == "id" => {}
        _ => return Err("nothing has such a variable".to_owned()),
    }
    let begun = |word: &&&str| word.starts_with(argument.value.as_str());
    CompletionInfo::with_all_values(WORDS.iter().filter(begun).map(|word| (*word).to_owned()).collect())
}
