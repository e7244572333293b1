//! The snapshot format: what a quiet guest's memory holds beyond its image.
//!
//! `CARDSNP2`, first 8 bytes of the image's SHA-256, memory length u32, count of globals u16, each u8 type and
//! u64 bits, count of pages u32, then the pages (`delta`).
//!
//! `CARDSNP1`, which is only read: i32 stack pointer, u32 memory length, u32 page count, the pages.

use crate::delta::{self, Delta};
use crate::image::{write_globals, GlobalValue, Hash, Reader};
use crate::sys::{self, PAGE};

const MAGIC_1: &[u8; 8] = b"CARDSNP1";
const MAGIC: &[u8; 8] = b"CARDSNP2";
const MAX_MEMORY: usize = 1 << 32;
const IMAGE_BYTES: usize = 8;

pub fn encode<'a>(
    memory: &[u8],
    globals: &[GlobalValue],
    image: &Hash,
    below: impl Fn(usize) -> Option<&'a [u8]>,
) -> Result<Vec<u8>, String> {
    let written = sys::dirty_pages(memory).unwrap_or_else(|| (0..memory.len() / PAGE).collect());
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&image[..IMAGE_BYTES]);
    out.extend_from_slice(&(memory.len() as u32).to_le_bytes());
    write_globals(&mut out, globals);
    delta::encode(memory, written.into_iter(), below, out)
}

pub struct Snapshot<'a> {
    pub globals: Vec<GlobalValue>,
    pub memory_len: usize,
    delta: Delta<'a>,
}

pub fn decode<'a>(bytes: &'a [u8], image: &Hash) -> Result<Snapshot<'a>, String> {
    let (mut from, old) = match (bytes.strip_prefix(MAGIC.as_slice()), bytes.strip_prefix(MAGIC_1.as_slice())) {
        (Some(body), _) => (Reader(body), false),
        (_, Some(body)) => (Reader(body), true),
        _ => return Err("not a snapshot of this version".into()),
    };
    let snapshot = if old {
        let globals = vec![GlobalValue { of: 0, bits: u64::from(from.u32()?) }];
        Snapshot { globals, memory_len: from.u32()? as usize, delta: Delta::decode(from)? }
    } else {
        if from.take(IMAGE_BYTES)? != &image[..IMAGE_BYTES] {
            return Err("a snapshot over another image".into());
        }
        let memory_len = from.u32()? as usize;
        Snapshot { globals: from.globals()?, memory_len, delta: Delta::decode(from)? }
    };
    if snapshot.memory_len >= MAX_MEMORY || snapshot.delta.count > snapshot.memory_len / PAGE {
        return Err("a snapshot with an impossible size".into());
    }
    Ok(snapshot)
}

impl Snapshot<'_> {
    /// Applies the pages over memory that holds the image.
    pub fn apply(&self, memory: &mut [u8]) -> Result<(), String> {
        self.delta.apply(memory)
    }
}
