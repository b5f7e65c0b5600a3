//! Template names: what a caller may ask for, and what the runtime makes of it.

use crate::error::{Error, Reason};

/// The runtime's name of the built-in template: the host's own tools, read-only.
pub const HOST: &str = "host";

/// Names that stand for the built-in template.
const BUILT_IN: [&str; 3] = [HOST, "workspace-base:latest", "workspace-test:latest"];

/// The runtime's name of a template, or `TemplateNotFound`. `base_image` names the built-in one too.
pub fn find(name: &str, base_image: &str) -> Result<&'static str, Error> {
    if name == base_image || BUILT_IN.contains(&name) {
        return Ok(HOST);
    }
    Err(Error::new(
        Reason::TemplateNotFound,
        format!("there is no template of this name; this server has {}", BUILT_IN.join(", ")),
    ))
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn built_in_names_and_nothing_else() {
        assert_eq!(find("workspace-test:latest", "x").unwrap(), "host");
        assert_eq!(find("x", "x").unwrap(), "host");
        assert!(find("../x", "workspace-base:latest").is_err());
    }
}
