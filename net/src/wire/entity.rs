//! Which tags do If-Match and If-None-Match name?
//!
//! A tag is visible characters between quotes. A weak one, `W/"…"`, never matches where bytes must be the same.
//! Source: RFC 9110 section 8.8.3.

use workspace_core::files::Tags;

/// Tags in one field.
const TAGS_MAX: usize = 256;

/// How tags are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// Weak ones match nothing: If-Match.
    Strong,
    /// Weak ones match as if they were strong: If-None-Match.
    Weak,
}

/// Reads a list of tags, or `*`; `None` where it is neither.
pub fn tags(field: &str, comparison: Comparison) -> Option<Tags> {
    let mut rest = field.trim();
    if rest == "*" {
        return Some(Tags::Any);
    }
    let mut tags = Vec::new();
    let mut count = 0;
    while !rest.is_empty() {
        let (is_weak, quoted) = match rest.strip_prefix("W/") {
            Some(quoted) => (true, quoted),
            None => (false, rest),
        };
        let (tag, behind) = quoted.strip_prefix('"')?.split_once('"')?;
        if !tag.chars().all(|c| c.is_ascii_graphic() || u32::from(c) >= 0x80) {
            return None;
        }
        count += 1;
        if !is_weak || comparison == Comparison::Weak {
            tags.push(tag.to_owned());
        }
        let behind = behind.trim_start();
        rest = match behind.strip_prefix(',') {
            Some(next) => next.trim_start(),
            None if behind.is_empty() => behind,
            None => return None,
        };
        if count > TAGS_MAX {
            return None;
        }
    }
    (count > 0).then_some(Tags::These(tags))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_tags() {
        let these = |tags: &[&str]| Some(Tags::These(tags.iter().map(|tag| (*tag).to_owned()).collect()));
        assert_eq!(tags(" * ", Comparison::Strong), Some(Tags::Any));
        assert_eq!(tags("\"a\"", Comparison::Strong), these(&["a"]));
        assert_eq!(tags("\"a\" , \"b,c\"", Comparison::Strong), these(&["a", "b,c"]));
        assert_eq!(tags("W/\"a\", \"b\"", Comparison::Strong), these(&["b"]));
        assert_eq!(tags("W/\"a\"", Comparison::Weak), these(&["a"]));
        assert_eq!(tags("\"\"", Comparison::Strong), these(&[""]));
        for bad in ["", "a", "\"a", "\"a\"\"b\"", "\"a\" \"b\"", "w/\"a\"", "\"a b\"", "*, \"a\"", ","] {
            assert_eq!(tags(bad, Comparison::Strong), None, "{bad}");
        }
        assert_eq!(tags(&"\"a\",".repeat(300), Comparison::Strong), None);
    }
}
