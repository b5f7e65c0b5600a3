//! Which operation does a method and a path name? A tree of path segments, built from the list.

use crate::operation::{Entry, Method};

type Methods = Vec<(Method, &'static Entry)>;

#[derive(Default)]
struct Node {
    words: Vec<(&'static str, usize)>,
    id: Option<usize>,
    entries: Methods,
}

/// All routes of a list.
pub(super) struct Router {
    nodes: Vec<Node>,
}

/// What a method and a path name.
pub(super) enum Found<'p> {
    /// An operation, with the path's segment that stands at `{id}`.
    Operation { entry: &'static Entry, id: Option<&'p str> },
    /// A path that other methods have: the value of Allow.
    OtherMethods(String),
    /// Nothing.
    Nothing,
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
        let Some((entries, id)) = self.walk(path) else { return Found::Nothing };
        let wanted = if method == http::Method::HEAD { "GET" } else { method.as_str() };
        match entries.iter().find(|(method, _)| method.name() == wanted) {
            Some((_, entry)) => Found::Operation { entry, id },
            None => Found::OtherMethods(allow(entries)),
        }
    }

    fn walk<'p>(&self, path: &'p str) -> Option<(&Methods, Option<&'p str>)> {
        let mut node = &self.nodes[0];
        let mut id = None;
        for segment in path.strip_prefix('/')?.split('/') {
            let next = match node.words.iter().find(|(word, _)| *word == segment) {
                Some((_, next)) => Some(*next),
                None if segment.is_empty() => None,
                None => {
                    id = Some(segment);
                    node.id
                }
            };
            node = &self.nodes[next?];
        }
        (!node.entries.is_empty()).then_some((&node.entries, id))
    }
}

fn child(nodes: &mut Vec<Node>, at: usize, segment: &'static str) -> usize {
    let existing = match segment {
        "{id}" => nodes[at].id,
        word => nodes[at].words.iter().find(|(w, _)| *w == word).map(|(_, next)| *next),
    };
    existing.unwrap_or_else(|| {
        let next = nodes.len();
        nodes.push(Node::default());
        match segment {
            "{id}" => nodes[at].id = Some(next),
            word => nodes[at].words.push((word, next)),
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
            Found::Operation { entry, id } => format!("{} {}", entry.name, id.unwrap_or("-")),
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
