//! Which operation does a method and a path name? A tree of path segments, built from the list.

use crate::operation::{Entry, Method};

type Methods = Vec<(Method, &'static Entry)>;

#[derive(Default)]
struct Node {
    words: Vec<(&'static str, usize)>,
    /// The name in braces, and what follows it.
    variable: Option<(&'static str, usize)>,
    entries: Methods,
}

/// All routes of a list.
pub(super) struct Router {
    nodes: Vec<Node>,
}

/// What a method and a path name.
pub(super) enum Found<'p> {
    /// An operation, with what the path names.
    Operation { entry: &'static Entry, names: Names<'p> },
    /// A path that other methods have: the value of Allow.
    OtherMethods(String),
    /// Nothing.
    Nothing,
}

/// What a path names: the segments that stand at braces.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Names<'p> {
    /// At `{id}`.
    pub(super) id: Option<&'p str>,
    /// At any other name; no path has two.
    pub(super) item: Option<(&'static str, &'p str)>,
}

impl Router {
    pub(super) fn new(operations: &'static [Entry]) -> Router {
        let mut nodes = vec![Node::default()];
        for entry in operations {
            for route in entry.routes {
                let end = route.path.split('/').skip(1).fold(0, |at, segment| child(&mut nodes, at, segment));
                nodes[end].entries.push((route.method, entry));
            }
        }
        Router { nodes }
    }

    /// HEAD is answered as GET without its body, so it is found as GET.
    pub(super) fn find<'p>(&self, method: &http::Method, path: &'p str) -> Found<'p> {
        let Some((entries, names)) = self.walk(path) else { return Found::Nothing };
        let wanted = if method == http::Method::HEAD { "GET" } else { method.as_str() };
        match entries.iter().find(|(method, _)| method.name() == wanted) {
            Some((_, entry)) => Found::Operation { entry, names },
            None => Found::OtherMethods(allow(entries)),
        }
    }

    fn walk<'p>(&self, path: &'p str) -> Option<(&Methods, Names<'p>)> {
        let mut node = &self.nodes[0];
        let mut names = Names::default();
        let mut rest = Some(path.strip_prefix('/')?);
        while let Some(path) = rest {
            // By bytes: what searches long texts for a character costs more on short ones.
            let end = path.bytes().position(|byte| byte == b'/');
            let segment = &path[..end.unwrap_or(path.len())];
            rest = end.map(|end| &path[end + 1..]);
            let next = match node.words.iter().find(|(word, _)| *word == segment) {
                Some((_, next)) => Some(*next),
                None if segment.is_empty() => None,
                None => {
                    let (name, next) = node.variable?;
                    match name {
                        "id" => names.id = Some(segment),
                        name => names.item = Some((name, segment)),
                    }
                    Some(next)
                }
            };
            node = &self.nodes[next?];
        }
        (!node.entries.is_empty()).then_some((&node.entries, names))
    }
}

fn child(nodes: &mut Vec<Node>, at: usize, segment: &'static str) -> usize {
    let name = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    let existing = match name {
        Some(name) => {
            nodes[at].variable.inspect(|(known, _)| assert_eq!(*known, name, "one name a place")).map(|v| v.1)
        }
        None => nodes[at].words.iter().find(|(word, _)| *word == segment).map(|(_, next)| *next),
    };
    existing.unwrap_or_else(|| {
        let next = nodes.len();
        nodes.push(Node::default());
        match name {
            Some(name) => nodes[at].variable = Some((name, next)),
            None => nodes[at].words.push((segment, next)),
        }
        next
    })
}

fn allow(entries: &[(Method, &'static Entry)]) -> String {
    let mut names: Vec<&str> = entries.iter().map(|(method, _)| method.name()).collect();
    if names.contains(&"GET") {
        names.push("HEAD");
    }
    names.push("OPTIONS");
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::OPERATIONS;

    #[test]
    fn finds_what_the_list_says() {
        let router = Router::new(OPERATIONS);
        let name = |method: &str, path: &str| match router.find(&method.parse().unwrap(), path) {
            Found::Operation { entry, names } => format!("{} {}", entry.name, names.id.unwrap_or("-")),
            Found::OtherMethods(allow) => allow,
            Found::Nothing => "nothing".to_owned(),
        };
        assert_eq!(name("GET", "/api/v1/sandboxes"), "sandbox_list -");
        assert_eq!(name("HEAD", "/api/v1/sandboxes/x"), "sandbox_get x");
        assert_eq!(name("POST", "/api/v1/sandboxes/x/process/run"), "process_run x");
        assert_eq!(name("GET", "/openapi.json"), "openapi -");
        assert_eq!(name("PUT", "/api/v1/sandboxes/x"), "GET, DELETE, HEAD, OPTIONS");
        for path in
            ["", "/", "*", "/api/v1/sandboxes/", "/api/v1/sandboxes/x/", "/api/v1", "//api/v1/health", "/API/v1/health"]
        {
            assert_eq!(name("GET", path), "nothing", "{path}");
        }
    }
}
