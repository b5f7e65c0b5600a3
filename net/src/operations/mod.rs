//! THE list: everything that callers can ask for. Routes, documents, tools and metrics are derived from it.
//!
//! Operations never import each other; what two of them check in the same way stands in `bounds`.

mod bounds;
mod process;
mod sandbox;
mod server;

use crate::operation::{Entry, entry};

macro_rules! operations {
    ($($operation:ty),* $(,)?) => {
        /// All operations, in the order of documents.
        pub static OPERATIONS: &[Entry] = &[$(entry::<$operation>()),*];
    };
}

operations![
    server::Health,
    server::OpenApi,
    sandbox::SandboxCreate,
    sandbox::SandboxList,
    sandbox::SandboxGet,
    sandbox::SandboxDelete,
    process::ProcessRun,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::Access;

    #[test]
    fn names_and_routes_are_unique_and_only_health_is_open() {
        let mut names: Vec<&str> = OPERATIONS.iter().map(|o| o.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), OPERATIONS.len());
        let mut routes = Vec::new();
        for operation in OPERATIONS {
            assert_eq!(operation.access == Access::Open, operation.name == "health", "{}", operation.name);
            assert!(!operation.routes.is_empty() && operation.summary.ends_with('.'), "{}", operation.name);
            for route in operation.routes {
                let shape = (route.method.name(), route.path.replace("{id}", "{}"));
                assert!(!routes.contains(&shape), "{shape:?} is there twice");
                routes.push(shape);
            }
        }
    }
}
