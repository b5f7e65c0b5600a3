//! How a file's name, which is any bytes but `/` and NUL, is shown as text and found again by that text.
//!
//! UTF-8 stands as it is. Each byte that is no part of UTF-8 becomes one character of U+10EF80 to U+10EFFF, the private
//! character of that byte; a name that holds such a character itself has its bytes shown the same way. So every name
//! has one text, every text leads back to its name, and a client that hands back what it was given needs to know
//! nothing of it.

/// The character of byte 0x80, less 0x80.
const PRIVATE: u32 = 0x10_EF00;

/// The text that shows a name.
pub fn show(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    let hide = |bytes: &[u8], text: &mut String| {
        text.extend(bytes.iter().filter_map(|byte| char::from_u32(PRIVATE + u32::from(*byte))));
    };
    for chunk in name.utf8_chunks() {
        for character in chunk.valid().chars() {
            match hidden(character) {
                None => text.push(character),
                Some(_) => hide(character.encode_utf8(&mut [0; 4]).as_bytes(), &mut text),
            }
        }
        hide(chunk.invalid(), &mut text);
    }
    text
}

/// The name that a text shows.
pub fn read(text: &str) -> Vec<u8> {
    // The private characters start with this byte in UTF-8: most texts have none.
    if !text.as_bytes().contains(&0xf4) {
        return text.as_bytes().to_vec();
    }
    let mut name = Vec::with_capacity(text.len());
    for character in text.chars() {
        match hidden(character) {
            Some(byte) => name.push(byte),
            None => name.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    name
}

/// The byte that a private character stands for.
fn hidden(character: char) -> Option<u8> {
    let byte = u32::from(character).checked_sub(PRIVATE)?;
    u8::try_from(byte).ok().filter(|byte| *byte >= 0x80)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Any name comes back from its text; what is UTF-8 without private characters is its own text.
    fn any_name(input: &[u8]) {
        let text = show(input);
        assert_eq!(read(&text), input);
        if let Ok(plain) = std::str::from_utf8(input)
            && !plain.contains(|c| hidden(c).is_some())
        {
            assert_eq!(text, plain);
        }
        let lossy = String::from_utf8_lossy(input);
        assert_eq!(read(&show(&read(&lossy))), read(&lossy));
    }

    #[test]
    fn every_name_has_one_text_that_leads_back() {
        let corpus: [&[u8]; 6] = [
            b"plain",
            "é日本🎉".as_bytes(),
            b"\xff\xfe\x80 caf\xe9",
            b"\xf0\x9f cut",
            "\u{10ef80}\u{10efff}\u{10ef7f}\u{10f000}".as_bytes(),
            b"\xc0\xaf\xed\xa0\x80\xf4\x90\x80\x80",
        ];
        assert_eq!(show(b"caf\xe9"), "caf\u{10efe9}");
        crate::fuzz::run(any_name, &corpus);
    }
}
