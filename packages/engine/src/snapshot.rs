//! The snapshot format: what a quiet guest's memory holds beyond its image.
//!
//! `CARDSNP1`, i32 stack pointer, u32 memory length, u32 page count, then zstd of: page numbers
//! (u32 each) and the pages, each XORed with the image, so that what did not change is zero.

use crate::sys::{self, PAGE};

const MAGIC: &[u8; 8] = b"CARDSNP1";
const HEADER: usize = 12;
const ZSTD_LEVEL: i32 = 1;
const MAX_MEMORY: usize = 1 << 32;

pub fn encode(memory: &[u8], image: &[u8], stack_pointer: i32) -> Result<Vec<u8>, String> {
    let written = sys::dirty_pages(memory).unwrap_or_else(|| (0..memory.len() / PAGE).collect());
    let mut numbers = Vec::new();
    let mut pages = Vec::new();
    for page in written {
        let now = &memory[page * PAGE..(page + 1) * PAGE];
        let before = image.get(page * PAGE..(page + 1) * PAGE);
        let same = before.map_or_else(|| now.iter().all(|b| *b == 0), |b| b == now);
        if same {
            continue;
        }
        numbers.extend_from_slice(&(page as u32).to_le_bytes());
        match before {
            Some(before) => pages.extend(now.iter().zip(before).map(|(a, b)| a ^ b)),
            None => pages.extend_from_slice(now),
        }
    }
    let count = (numbers.len() / 4) as u32;
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&stack_pointer.to_le_bytes());
    out.extend_from_slice(&(memory.len() as u32).to_le_bytes());
    out.extend_from_slice(&count.to_le_bytes());
    numbers.append(&mut pages);
    out.extend(zstd::bulk::compress(&numbers, ZSTD_LEVEL).map_err(|e| format!("compress snapshot: {e}"))?);
    Ok(out)
}

pub struct Snapshot {
    pub stack_pointer: i32,
    pub memory_len: usize,
    pages: Vec<u8>,
    count: usize,
}

pub fn decode(bytes: &[u8]) -> Result<Snapshot, String> {
    let body = bytes.strip_prefix(MAGIC.as_slice()).ok_or("not a snapshot of this version")?;
    let (header, packed) = body.split_at_checked(HEADER).ok_or("a truncated snapshot")?;
    let word = |i: usize| u32::from_le_bytes(header[i * 4..i * 4 + 4].try_into().expect("four bytes"));
    let (memory_len, count) = (word(1) as usize, word(2) as usize);
    if memory_len >= MAX_MEMORY || count > memory_len / PAGE {
        return Err("a snapshot with an impossible size".into());
    }
    let pages = zstd::bulk::decompress(packed, count * (PAGE + 4)).map_err(|e| format!("decompress snapshot: {e}"))?;
    if pages.len() != count * (PAGE + 4) {
        return Err("a snapshot shorter than it says".into());
    }
    Ok(Snapshot { stack_pointer: word(0) as i32, memory_len, pages, count })
}

impl Snapshot {
    /// Applies the pages over memory that holds the image.
    pub fn apply(&self, memory: &mut [u8]) -> Result<(), String> {
        let (numbers, pages) = self.pages.split_at(self.count * 4);
        let numbered = numbers.chunks_exact(4).map(|n| u32::from_le_bytes(n.try_into().expect("four bytes")) as usize);
        sys::populate(memory, numbered.collect());
        for (number, page) in numbers.chunks_exact(4).zip(pages.chunks_exact(PAGE)) {
            let at = u32::from_le_bytes(number.try_into().expect("four bytes")) as usize * PAGE;
            let target = memory.get_mut(at..at + PAGE).ok_or("a snapshot page outside memory")?;
            target.iter_mut().zip(page).for_each(|(t, p)| *t ^= p);
        }
        Ok(())
    }
}
