//! The snapshot format: what a quiet guest's memory holds beyond its image.
//!
//! `CARDSNP3`, first 8 bytes of the image's SHA-256 and of that of its first turn (`first`), memory length u32, count
//! of globals u16, each u8 type and u64 bits, then the pages (`delta`) as they differ from the first turn's, or from
//! the image's where that wrote none. `CARDSNP2`, over the image alone: without the first turn.
//!
//! `CARDSNP1`, which is only read: i32 stack pointer, u32 memory length, u32 page count, the pages.

use std::collections::BTreeSet;

use crate::delta::{self, Delta};
use crate::first::{short, FirstPages, Pages, Short};
use crate::image::{write_globals, GlobalValue, Hash, Reader};
use crate::sys::{self, PAGE};

const MAGIC_1: &[u8; 8] = b"CARDSNP1";
const MAGIC_2: &[u8; 8] = b"CARDSNP2";
const MAGIC: &[u8; 8] = b"CARDSNP3";
const MAX_MEMORY: usize = 1 << 32;
const NAME: usize = 8;

/// `mapped`: so much of memory lies over the first turn, and the rest over the image.
pub fn encode<'a>(
    memory: &[u8],
    globals: &[GlobalValue],
    image: &Hash,
    first: Option<&FirstPages>,
    mapped: usize,
    below: impl Fn(usize) -> Option<&'a [u8]>,
) -> Result<Vec<u8>, String> {
    let pages = memory.len() / PAGE;
    let written = sys::dirty_pages(memory).unwrap_or_else(|| (0..pages).collect());
    let mut out = if first.is_some() { MAGIC } else { MAGIC_2 }.to_vec();
    out.extend_from_slice(&short(image));
    if let Some(first) = first {
        out.extend_from_slice(&first.name);
    }
    out.extend_from_slice(&(memory.len() as u32).to_le_bytes());
    write_globals(&mut out, globals);
    let Some(first) = first else { return delta::encode(memory, written.into_iter(), below, out) };
    // Pages that only the first turn wrote are as the image has them, where that is what lies below.
    let not_mapped = first.numbers.iter().copied().filter(|n| (mapped / PAGE..pages).contains(n));
    let candidates: BTreeSet<usize> = written.into_iter().chain(not_mapped).collect();
    delta::encode(memory, candidates.into_iter(), |n| first.page(n).or_else(|| below(n)), out)
}

pub struct Snapshot<'a> {
    pub globals: Vec<GlobalValue>,
    pub memory_len: usize,
    /// Over which first turn, if over any.
    pub first: Option<Short>,
    delta: Delta<'a>,
}

pub fn decode<'a>(bytes: &'a [u8], image: &Hash) -> Result<Snapshot<'a>, String> {
    let (magic, body) = bytes.split_at_checked(MAGIC.len()).ok_or("cut off")?;
    let mut from = Reader(body);
    let snapshot = if magic == MAGIC_1 {
        let globals = vec![GlobalValue { of: 0, bits: u64::from(from.u32()?) }];
        Snapshot { globals, memory_len: from.u32()? as usize, first: None, delta: Delta::decode(from)? }
    } else if magic == MAGIC || magic == MAGIC_2 {
        if from.take(NAME)? != short(image) {
            return Err("a snapshot over another image".into());
        }
        let first = if magic == MAGIC { Some(from.take(NAME)?.try_into().expect("eight bytes")) } else { None };
        let memory_len = from.u32()? as usize;
        Snapshot { globals: from.globals()?, memory_len, first, delta: Delta::decode(from)? }
    } else {
        return Err("not a snapshot of this version".into());
    };
    if snapshot.memory_len >= MAX_MEMORY || snapshot.delta.count > snapshot.memory_len / PAGE {
        return Err("a snapshot with an impossible size".into());
    }
    Ok(snapshot)
}

impl Snapshot<'_> {
    /// Applies the pages over memory that holds the image, and over that the first turn that it names.
    /// Their numbers.
    pub fn apply(&self, memory: &mut [u8]) -> Result<Vec<usize>, String> {
        self.delta.apply(memory)
    }

    /// The pages that it holds, whole, where `below` is what it lies over.
    pub fn pages<'b>(&self, name: Short, below: impl Fn(usize) -> Option<&'b [u8]>) -> Result<FirstPages, String> {
        let (mut numbers, mut pages) = (Vec::with_capacity(self.delta.count), Vec::with_capacity(self.delta.count * PAGE));
        self.delta.each(|n, page| {
            let before = below(n).unwrap_or(&[0; PAGE]);
            numbers.push(n);
            pages.extend(page.iter().zip(before).map(|(a, b)| a ^ b));
            Ok(())
        })?;
        Ok(FirstPages { name, memory_len: self.memory_len, numbers: numbers.into(), pages: Pages::Copied(pages) })
    }
}
