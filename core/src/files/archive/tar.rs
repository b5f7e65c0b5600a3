//! A tar archive as bytes: heads read strictly, one reading for each, and heads written.
//!
//! Read are ustar, its pax extension (path, linkpath, size) and GNU's long names; sparse files, devices and what has
//! two readings are refused. Sizes are what a pax head says, where there is one, as POSIX demands: a reader that takes
//! the other number finds another archive inside. Source: POSIX.1-2024 pax, "ustar Interchange Format"; tar(5).

/// Heads and bodies are multiples of it.
pub(in crate::files) const BLOCK: usize = 512;
/// Of a pax head or a long name.
pub(super) const EXTENSION_BYTES_MAX: u64 = 64 << 10;
/// Of a file.
pub(in crate::files) const SIZE_MAX: u64 = 1 << 50;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::files) enum Kind {
    File,
    Directory,
    Symlink,
    /// Of a file that came before.
    HardLink,
}

/// An entry's head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::files) struct Entry {
    pub(in crate::files) path: Vec<u8>,
    pub(in crate::files) kind: Kind,
    /// Bytes that follow.
    pub(in crate::files) size: u64,
    pub(in crate::files) mode: u32,
    pub(in crate::files) target: Vec<u8>,
}

/// What the next block is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Head {
    Entry(Entry),
    /// Bytes that follow say more about the next entry: [`Next::extend`].
    Extension(u8, u64),
    /// Two of them end an archive.
    Zero,
}

/// What heads before an entry said about it.
#[derive(Debug, Default)]
pub(super) struct Next {
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    size: Option<u64>,
}

/// Why the bytes are refused.
pub(in crate::files) type Malformed = &'static str;

impl Next {
    /// Takes what an extension's body says.
    pub(super) fn extend(&mut self, kind: u8, body: &[u8]) -> Result<(), Malformed> {
        let name = || body.split(|b| *b == 0).next().unwrap_or_default().to_vec();
        match kind {
            b'L' => self.path = Some(name()),
            b'K' => self.target = Some(name()),
            b'x' => {
                let mut rest = body;
                while !rest.is_empty() {
                    let (key, value, behind) = record(rest)?;
                    rest = behind;
                    match key {
                        b"path" => self.path = Some(value.to_vec()),
                        b"linkpath" => self.target = Some(value.to_vec()),
                        b"size" => {
                            let size =
                                std::str::from_utf8(value).ok().filter(|t| t.bytes().all(|b| b.is_ascii_digit()));
                            self.size = Some(size.and_then(|t| t.parse().ok()).ok_or("a pax size that is no number")?);
                        }
                        key if key.starts_with(b"GNU.sparse") => return Err("a sparse file"),
                        _ => {}
                    }
                }
            }
            // Global: times and comments of the archive as a whole.
            _ => {}
        }
        Ok(())
    }

    /// Reads a block as a head.
    pub(super) fn head(&mut self, block: &[u8; BLOCK]) -> Result<Head, Malformed> {
        if block.iter().all(|b| *b == 0) {
            return Ok(Head::Zero);
        }
        let sum: u64 =
            block.iter().enumerate().map(|(i, b)| if (148..156).contains(&i) { 32 } else { u64::from(*b) }).sum();
        if number(&block[148..156])? != sum {
            return Err("a head whose sum is wrong");
        }
        let said = number(&block[124..136])?;
        let kind = match block[156] {
            b'x' | b'g' | b'L' | b'K' => {
                if said > EXTENSION_BYTES_MAX {
                    return Err("a head that is longer than 64 KiB");
                }
                return Ok(Head::Extension(block[156], said));
            }
            b'0' | 0 | b'7' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'5' => Kind::Directory,
            b'3' | b'4' | b'6' => return Err("a device or FIFO"),
            _ => return Err("an entry of another kind than file, directory or link"),
        };
        let Next { path, target, size } = std::mem::take(self);
        let text = |range: std::ops::Range<usize>| block[range].split(|b| *b == 0).next().unwrap_or_default().to_vec();
        let (name, prefix) = (text(0..100), text(345..500));
        let is_ustar = &block[257..263] == b"ustar\0";
        let path = path.unwrap_or_else(|| match prefix.is_empty() || !is_ustar {
            true => name,
            false => [&prefix[..], b"/", &name].concat(),
        });
        // Old archives mark a directory by its name alone.
        let kind = if kind == Kind::File && path.ends_with(b"/") { Kind::Directory } else { kind };
        let size = size.unwrap_or(said);
        if size > SIZE_MAX || (kind != Kind::File && size != 0) {
            return Err("a size that no such entry can have");
        }
        let mode = number(&block[100..108])? as u32 & 0o777;
        Ok(Head::Entry(Entry { path, kind, size, mode, target: target.unwrap_or_else(|| text(157..257)) }))
    }
}

/// Key, value, and what follows.
type Record<'a> = (&'a [u8], &'a [u8], &'a [u8]);

/// One record of a pax head, `LENGTH KEY=VALUE\n`, and what follows it.
fn record(bytes: &[u8]) -> Result<Record<'_>, Malformed> {
    const WRONG: Malformed = "a pax head with a broken record";
    let space = bytes.iter().take(8).position(|b| *b == b' ').ok_or(WRONG)?;
    let digits = std::str::from_utf8(&bytes[..space]).map_err(|_| WRONG)?;
    let length: usize = digits.parse().map_err(|_| WRONG)?;
    if length <= space + 1 || length > bytes.len() || bytes[length - 1] != b'\n' {
        return Err(WRONG);
    }
    let (key, value) = {
        let text = &bytes[space + 1..length - 1];
        let equals = text.iter().position(|b| *b == b'=').ok_or(WRONG)?;
        (&text[..equals], &text[equals + 1..])
    };
    if value.contains(&0) {
        return Err("a name with a NUL");
    }
    Ok((key, value, &bytes[length..]))
}

/// Octal digits between blanks, or a positive number in base 256.
fn number(field: &[u8]) -> Result<u64, Malformed> {
    const WRONG: Malformed = "a number that is none";
    if field[0] == 0x80 {
        let (high, low) = field[1..].split_at(field.len() - 1 - 8.min(field.len() - 1));
        if high.iter().any(|b| *b != 0) {
            return Err(WRONG);
        }
        return Ok(low.iter().fold(0, |number, b| number << 8 | u64::from(*b)));
    }
    let text = field.split(|b| *b == 0).next().unwrap_or_default().trim_ascii();
    if !text.iter().all(|b| (b'0'..=b'7').contains(b)) {
        return Err(WRONG);
    }
    Ok(text.iter().fold(0, |number, b| number << 3 | u64::from(b - b'0')))
}

/// Writes an entry's head, with a pax head before it where its names or size need one.
pub(in crate::files) fn write_head(out: &mut Vec<u8>, entry: &Entry, modified_s: u64) {
    let mut pax = Vec::new();
    for (key, value, bytes_max) in [("path", &entry.path, 100), ("linkpath", &entry.target, 100)] {
        if value.len() > bytes_max {
            pax_record(&mut pax, key, value);
        }
    }
    if entry.size >= 1 << 33 {
        pax_record(&mut pax, "size", entry.size.to_string().as_bytes());
    }
    if !pax.is_empty() {
        block(out, b"././@PaxHeader", b'x', pax.len() as u64, 0o644, b"", modified_s);
        out.extend_from_slice(&pax);
        pad(out, pax.len() as u64);
    }
    let kind = match entry.kind {
        Kind::File => b'0',
        Kind::HardLink => b'1',
        Kind::Symlink => b'2',
        Kind::Directory => b'5',
    };
    block(out, &entry.path, kind, entry.size, entry.mode, &entry.target, modified_s);
}

/// Fills up to a whole block behind a body of `size` bytes.
pub(in crate::files) fn pad(out: &mut Vec<u8>, size: u64) {
    let over = (size % BLOCK as u64) as usize;
    if over > 0 {
        out.resize(out.len() + BLOCK - over, 0);
    }
}

fn pax_record(pax: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + rest.to_string().len();
    length = rest + length.to_string().len();
    pax.extend_from_slice(format!("{length} {key}=").as_bytes());
    pax.extend_from_slice(value);
    pax.push(b'\n');
}

fn block(out: &mut Vec<u8>, path: &[u8], kind: u8, size: u64, mode: u32, target: &[u8], modified_s: u64) {
    let mut head = [0u8; BLOCK];
    let mut put = |at: usize, bytes: &[u8], bytes_max: usize| {
        let bytes = &bytes[..bytes.len().min(bytes_max)];
        head[at..at + bytes.len()].copy_from_slice(bytes);
    };
    put(0, path, 100);
    put(100, format!("{mode:07o}").as_bytes(), 8);
    put(108, b"0001750", 8);
    put(116, b"0001750", 8);
    put(124, format!("{:011o}", size & ((1 << 33) - 1)).as_bytes(), 12);
    put(136, format!("{:011o}", modified_s.min((1 << 33) - 1)).as_bytes(), 12);
    put(148, b"        ", 8);
    put(156, &[kind], 1);
    put(157, target, 100);
    put(257, b"ustar\x0000", 8);
    put(265, b"user", 32);
    put(297, b"user", 32);
    let sum: u32 = head.iter().map(|b| u32::from(*b)).sum();
    head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    out.extend_from_slice(&head);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads heads until one is an entry.
    fn first(mut bytes: &[u8]) -> Result<Option<Entry>, Malformed> {
        let mut next = Next::default();
        while let Some((block, rest)) = bytes.split_first_chunk::<BLOCK>() {
            bytes = rest;
            match next.head(block)? {
                Head::Entry(entry) => return Ok(Some(entry)),
                Head::Zero => return Ok(None),
                Head::Extension(kind, size) => {
                    let whole = size.next_multiple_of(BLOCK as u64) as usize;
                    let Some(body) = bytes.get(..size as usize) else { return Ok(None) };
                    next.extend(kind, body)?;
                    bytes = bytes.get(whole..).unwrap_or_default();
                }
            }
        }
        Ok(None)
    }

    #[test]
    fn what_is_written_is_read() {
        for (path, target, size) in
            [(3, 0, 5), (100, 100, 0), (101, 99, 0), (99, 101, 0), (4000, 4000, 0), (94, 0, 1 << 40)]
        {
            let kind = if target > 0 { Kind::Symlink } else { Kind::File };
            let entry = Entry { path: vec![b'p'; path], kind, size, mode: 0o640, target: vec![b't'; target] };
            let mut out = Vec::new();
            write_head(&mut out, &entry, 1_700_000_000);
            assert_eq!(first(&out), Ok(Some(entry)));
        }
    }

    /// Any bytes are an entry within bounds, or refused.
    fn any_bytes(input: &[u8]) {
        let mut bytes = input.to_vec();
        bytes.resize(4 * BLOCK, 0);
        // A sum that is right lets mutations get further.
        for block in bytes.chunks_mut(BLOCK) {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        if let Ok(Some(entry)) = first(&bytes) {
            assert!(entry.size <= SIZE_MAX && entry.mode <= 0o777 && !entry.path.contains(&0));
        }
        let _ = first(input);
    }

    #[test]
    fn any_bytes_are_an_entry_or_refused() {
        let mut written = Vec::new();
        let entry = Entry { path: vec![b'p'; 300], kind: Kind::File, size: 7, mode: 0o644, target: Vec::new() };
        write_head(&mut written, &entry, 0);
        let mut base_256 = written.clone();
        base_256[124] = 0x80;
        let mut long = written[..BLOCK].to_vec();
        long[156] = b'L';
        crate::fuzz::run(any_bytes, &[&written, &base_256, &long, b"12 path=a\0b\n"]);
    }
}
