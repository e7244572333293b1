//! The image format: a booted guest's linear memory and the handles into it.
//!
//! `CARDIMG1`, u32 length of the header, header (five i32, little-endian), zstd of the memory.
//! Built under a fixed clock and seed, so the same inputs give the same bytes on any machine.

use crate::sys;

const MAGIC: &[u8; 8] = b"CARDIMG1";
const HEADER: usize = 24;
const ZSTD_LEVEL: i32 = 3;
/// An image larger than this is refused when read: no guest may start with more.
const MAX_MEMORY: usize = 1 << 30;

/// Where in the memory of a guest the values live that the engine calls.
#[derive(Clone, Copy, Default)]
pub struct Handles {
    pub stack_pointer: i32,
    pub deliver: i32,
    pub collect: i32,
    pub describe: i32,
    pub undefined: i32,
}

impl Handles {
    fn words(self) -> [i32; 5] {
        [self.stack_pointer, self.deliver, self.collect, self.describe, self.undefined]
    }
}

pub fn encode(memory: &[u8], handles: Handles) -> Result<Vec<u8>, String> {
    assert_eq!(memory.len() % sys::PAGE, 0, "linear memory is whole pages");
    let mut out = MAGIC.to_vec();
    for word in handles.words() {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.extend_from_slice(&(memory.len() as u32).to_le_bytes());
    out.extend(zstd::bulk::compress(memory, ZSTD_LEVEL).map_err(|e| format!("compress image: {e}"))?);
    Ok(out)
}

pub fn decode(bytes: &[u8]) -> Result<(Vec<u8>, Handles), String> {
    let body = bytes.strip_prefix(MAGIC.as_slice()).ok_or("not an image of this version")?;
    let (header, packed) = body.split_at_checked(HEADER).ok_or("a truncated image")?;
    let word = |i: usize| i32::from_le_bytes(header[i * 4..i * 4 + 4].try_into().expect("four bytes"));
    let length = word(5) as u32 as usize;
    if length > MAX_MEMORY || length % sys::PAGE != 0 {
        return Err("an image with an impossible memory size".into());
    }
    let memory = zstd::bulk::decompress(packed, length).map_err(|e| format!("decompress image: {e}"))?;
    if memory.len() != length {
        return Err("an image shorter than it says".into());
    }
    let handles =
        Handles { stack_pointer: word(0), deliver: word(1), collect: word(2), describe: word(3), undefined: word(4) };
    Ok((memory, handles))
}
