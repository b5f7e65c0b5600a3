//! XDR (RFC 4506) as it comes from strangers: a reader that never trusts a length, and what is written by hand.
//!
//! Types of a fixed size are the crate nfsserve's, which reads and writes them soundly. Its vectors and strings are
//! not used for input: it reserves what a length claims, up to 4 GiB, before a byte of it is there.

use nfsserve::xdr::XDR;

/// What was sent is not what the procedure takes: GARBAGE_ARGS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Garbage;

/// Reads what is in one record, and nothing beyond it.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Of these bytes.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    /// Bytes that were not read yet.
    pub fn left(&self) -> usize {
        self.rest.len()
    }

    /// As many bytes as that.
    pub fn fixed(&mut self, bytes: usize) -> Result<&'a [u8], Garbage> {
        let (taken, rest) = self.rest.split_at_checked(bytes).ok_or(Garbage)?;
        self.rest = rest;
        Ok(taken)
    }

    /// An unsigned integer.
    pub fn u32(&mut self) -> Result<u32, Garbage> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(Garbage)?;
        self.rest = rest;
        Ok(u32::from_be_bytes(*bytes))
    }

    /// An unsigned hyper integer.
    pub fn u64(&mut self) -> Result<u64, Garbage> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(Garbage)?;
        self.rest = rest;
        Ok(u64::from_be_bytes(*bytes))
    }

    /// A boolean: 0 or 1.
    pub fn bool(&mut self) -> Result<bool, Garbage> {
        match self.u32()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Garbage),
        }
    }

    /// Eight bytes that nobody interprets.
    pub fn eight(&mut self) -> Result<[u8; 8], Garbage> {
        self.u64().map(u64::to_be_bytes)
    }

    /// Bytes with their length before them and padding behind.
    pub fn opaque(&mut self, bytes_max: usize) -> Result<&'a [u8], Garbage> {
        let length = self.u32()? as usize;
        if length > bytes_max || length > self.rest.len() {
            return Err(Garbage);
        }
        let bytes = self.fixed(length)?;
        self.fixed(padding(length))?;
        Ok(bytes)
    }

    /// One of nfsserve's types. Only for those of a fixed size.
    pub fn value<T: XDR + Default>(&mut self) -> Result<T, Garbage> {
        let mut value = T::default();
        value.deserialize(&mut self.rest).map_err(|_| Garbage)?;
        Ok(value)
    }
}

/// Bytes that follow this many, so that what comes next begins at a multiple of four.
pub fn padding(bytes: usize) -> usize {
    bytes.wrapping_neg() & 3
}

/// Adds an unsigned integer.
pub fn put_u32(to: &mut Vec<u8>, value: u32) {
    to.extend_from_slice(&value.to_be_bytes());
}

/// Adds an unsigned hyper integer.
pub fn put_u64(to: &mut Vec<u8>, value: u64) {
    to.extend_from_slice(&value.to_be_bytes());
}

/// Adds bytes with their length and padding.
pub fn put_opaque(to: &mut Vec<u8>, bytes: &[u8]) {
    put_u32(to, bytes.len() as u32);
    to.extend_from_slice(bytes);
    put_padding(to, bytes.len());
}

/// Adds the padding behind this many bytes.
pub fn put_padding(to: &mut Vec<u8>, bytes: usize) {
    to.extend_from_slice(&[0; 3][..padding(bytes)]);
}

/// Adds one of nfsserve's types.
pub fn put<T: XDR>(to: &mut Vec<u8>, value: &T) {
    // Writing to memory cannot fail.
    let _ = value.serialize(to);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_that_lies_takes_nothing() {
        for claimed in [9u32, 400, u32::MAX] {
            let mut bytes = claimed.to_be_bytes().to_vec();
            bytes.extend([1; 8]);
            assert_eq!(Reader::new(&bytes).opaque(u32::MAX as usize), Err(Garbage));
        }
    }

    #[test]
    fn what_is_put_is_read() {
        let mut bytes = Vec::new();
        put_opaque(&mut bytes, b"abcde");
        put_u64(&mut bytes, 7);
        let mut reader = Reader::new(&bytes);
        assert_eq!((reader.opaque(5), reader.u64(), reader.left()), (Ok(&b"abcde"[..]), Ok(7), 0));
        assert_eq!(Reader::new(&bytes).opaque(4), Err(Garbage));
    }
}
