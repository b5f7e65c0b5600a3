//! Lines of a stream: bytes in, whole lines out, each bounded. Blank ones are skipped, a CR before the LF is dropped.
//!
//! What is held is at most one line. One that is too long is told once, as soon as it is, and skipped to its end.

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// Without its end.
    Whole(Vec<u8>),
    /// Longer than allowed; its bytes are gone.
    TooLong,
}

/// Puts one line after another together.
#[derive(Debug)]
pub struct Lines {
    line: Vec<u8>,
    bytes_max: usize,
    skips: bool,
}

impl Lines {
    /// Lines of at most `bytes_max`, their end not counted.
    pub fn new(bytes_max: usize) -> Lines {
        Lines { line: Vec::new(), bytes_max, skips: false }
    }

    /// Takes bytes from the front of `input`, up to the end of a line that is worth telling; `None`: all are taken.
    pub fn feed(&mut self, input: &mut &[u8]) -> Option<Line> {
        while !input.is_empty() {
            let end = input.iter().position(|byte| *byte == b'\n');
            let piece = &input[..end.unwrap_or(input.len())];
            *input = &input[end.map_or(input.len(), |end| end + 1)..];
            if self.skips {
                self.skips = end.is_none();
                continue;
            }
            // A CR at the bound may be the line's end, of which the LF is still to come.
            let returns = if piece.is_empty() { self.line.ends_with(b"\r") } else { piece.ends_with(b"\r") };
            if self.line.len() + piece.len() > self.bytes_max + usize::from(returns) {
                self.line = Vec::new();
                self.skips = end.is_none();
                return Some(Line::TooLong);
            }
            self.line.extend_from_slice(piece);
            if end.is_some()
                && let Some(line) = self.end()
            {
                return Some(line);
            }
        }
        None
    }

    /// The line that has no end yet, where the stream ends with it.
    pub fn end(&mut self) -> Option<Line> {
        let mut line = std::mem::take(&mut self.line);
        if line.ends_with(b"\r") {
            line.pop();
        }
        if line.len() > self.bytes_max {
            return Some(Line::TooLong);
        }
        (!line.trim_ascii().is_empty()).then_some(Line::Whole(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES_MAX: usize = 16;

    fn all<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<Line> {
        let mut lines = Lines::new(BYTES_MAX);
        let mut told = Vec::new();
        for mut piece in pieces {
            while let Some(line) = lines.feed(&mut piece) {
                told.push(line);
            }
            assert!(lines.line.len() <= BYTES_MAX + 1, "what is held is bounded");
        }
        told.extend(lines.end());
        told
    }

    /// Lines are those of the text, however it is cut.
    fn any_bytes(input: &[u8]) {
        let wanted: Vec<Line> = input
            .split(|byte| *byte == b'\n')
            .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
            .filter_map(|line| match line {
                line if line.len() > BYTES_MAX => Some(Line::TooLong),
                line if line.trim_ascii().is_empty() => None,
                line => Some(Line::Whole(line.to_vec())),
            })
            .collect();
        assert_eq!(all(std::iter::once(input)), wanted, "whole");
        assert_eq!(all(input.chunks(1)), wanted, "byte by byte");
        assert_eq!(all(input.chunks(7)), wanted, "by sevens");
    }

    #[test]
    fn any_bytes_are_their_lines() {
        let corpus: [&[u8]; 7] = [
            b"{\"a\":1}\n{\"b\":2}\r\n\n  \n\r\nlast",
            b"0123456789abcdef\n0123456789abcdefg\nx\n",
            b"0123456789abcdef\r\n0123456789abcdefghijklmnopqrstuvwxyz0123456789\n\ny",
            b"0123456789abcdef\r\r\n0123456789abcdef\r",
            b"\xc3\xa9\n\xff\n",
            b"\n\n\n",
            b"                        \nz",
        ];
        crate::fuzz::run(any_bytes, &corpus);
    }

    #[test]
    fn a_long_line_is_told_before_its_end() {
        let mut lines = Lines::new(BYTES_MAX);
        assert_eq!(lines.feed(&mut &[b'x'; 17][..]), Some(Line::TooLong));
        assert_eq!(lines.feed(&mut &[b'x'; 1000][..]), None, "once");
        assert_eq!(lines.feed(&mut &b"xx\nnext\n"[..]), Some(Line::Whole(b"next".to_vec())));
    }
}
