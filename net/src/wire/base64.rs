//! Bytes as text: standard base64 for output that is not UTF-8, the URL-safe one without padding for cursors.
//!
//! Source: RFC 4648 sections 4 and 5. Decoding is strict: one text for one value.

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Standard, padded.
pub fn encode(bytes: &[u8]) -> String {
    let mut text = digits(bytes, STANDARD);
    while !text.len().is_multiple_of(4) {
        text.push('=');
    }
    text
}

/// URL-safe, without padding.
pub fn encode_url(bytes: &[u8]) -> String {
    digits(bytes, URL)
}

fn digits(bytes: &[u8], alphabet: &[u8; 64]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let word = group.iter().enumerate().fold(0u32, |w, (i, b)| w | u32::from(*b) << (16 - 8 * i));
        for digit in 0..=group.len() {
            text.push(char::from(alphabet[(word >> (18 - 6 * digit)) as usize & 63]));
        }
    }
    text
}

/// Reads standard, padded text; `None` where the encoder could not have made it.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_suffix("==").or_else(|| text.strip_suffix('=')).unwrap_or(text);
    text.len().is_multiple_of(4).then(|| values(digits, STANDARD))?
}

/// Reads URL-safe text without padding; `None` where the encoder could not have made it.
pub fn decode_url(text: &str) -> Option<Vec<u8>> {
    values(text, URL)
}

fn values(digits: &str, alphabet: &[u8; 64]) -> Option<Vec<u8>> {
    let mut value_of = [None; 256];
    for (value, digit) in (0u32..).zip(alphabet) {
        value_of[usize::from(*digit)] = Some(value);
    }
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    for group in digits.as_bytes().chunks(4) {
        if group.len() == 1 {
            return None;
        }
        let mut word = 0u32;
        for (i, digit) in group.iter().enumerate() {
            word |= value_of[usize::from(*digit)]? << (18 - 6 * i);
        }
        let whole = group.len() - 1;
        if whole < 3 && word << (8 + 8 * whole) != 0 {
            return None;
        }
        bytes.extend_from_slice(&word.to_be_bytes()[1..=whole]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_texts() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")] {
            assert_eq!(encode(bytes.as_bytes()), text);
            assert_eq!(decode(text).as_deref(), Some(bytes.as_bytes()));
        }
        for bad in ["Zg", "Zg=", "Zg===", "Z===", "====", "=", "Zm9v=", "Zh==", "Z-==", "Zg==Zg==", "Zg=\n"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
        assert_eq!(encode(&[0xfb, 0xff]), "+/8=");
        assert_eq!(encode_url(&[0xfb, 0xff]), "-_8");
    }

    #[test]
    fn one_text_for_one_value() {
        for len in 0..20u8 {
            let bytes: Vec<u8> = (0..len).map(|i| i.wrapping_mul(77)).collect();
            assert_eq!(decode_url(&encode_url(&bytes)), Some(bytes));
        }
        for bad in ["A", "AB=", "AB==", "A+", "Zh", "Zm9", "AAAAA", "é"] {
            assert_eq!(decode_url(bad), None, "{bad}");
        }
    }
}
