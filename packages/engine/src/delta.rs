//! Pages of memory as they differ from other memory: the body of images and of snapshots.
//!
//! zstd of: page numbers (u32 each, little-endian), then the pages in that order, each XORed with the page
//! below, so that what did not change is zero. Where nothing lies below, that page counts as zeros.

use std::io::{Read, Write};

use crate::sys::{self, PAGE};

/// Bodies up to this size are packed in one piece; larger ones in a stream, without a copy of them.
const ONE_PIECE: usize = 4 << 20;
const ZSTD_LEVEL: i32 = 1;

pub struct Delta {
    pub count: usize,
    pub packed: Vec<u8>,
}

const ZEROS: [u8; PAGE] = [0; PAGE];

/// What differs in `memory`, looking at `candidates` only.
pub fn encode<'a>(
    memory: &[u8],
    candidates: impl Iterator<Item = usize>,
    below: impl Fn(usize) -> Option<&'a [u8]>,
) -> Result<Delta, String> {
    let page = |n: usize| &memory[n * PAGE..(n + 1) * PAGE];
    let changed: Vec<usize> = candidates.filter(|n| page(*n) != below(*n).unwrap_or(&ZEROS)).collect();
    let mut scratch = [0u8; PAGE];
    let mut xored = |n: usize, out: &mut dyn Write| -> std::io::Result<()> {
        match below(n) {
            None => out.write_all(page(n)),
            Some(before) => {
                for ((to, a), b) in scratch.iter_mut().zip(page(n)).zip(before) {
                    *to = a ^ b;
                }
                out.write_all(&scratch)
            }
        }
    };
    let numbers = changed.iter().flat_map(|n| (*n as u32).to_le_bytes());
    let size = changed.len() * (PAGE + 4);
    let said = |e: std::io::Error| format!("compress pages: {e}");
    let packed = if size <= ONE_PIECE {
        let mut body: Vec<u8> = Vec::with_capacity(size);
        body.extend(numbers);
        for n in &changed {
            xored(*n, &mut body).map_err(said)?;
        }
        zstd::bulk::compress(&body, ZSTD_LEVEL).map_err(said)?
    } else {
        let mut out = zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL).map_err(said)?;
        out.write_all(&numbers.collect::<Vec<u8>>()).map_err(said)?;
        for n in &changed {
            xored(*n, &mut out).map_err(said)?;
        }
        out.finish().map_err(said)?
    };
    Ok(Delta { count: changed.len(), packed })
}

impl Delta {
    /// Calls `take` with each page and its number; pages come XORed with what lies below.
    pub fn each(&self, mut take: impl FnMut(usize, &[u8]) -> Result<(), String>, before: impl FnOnce(Vec<usize>)) -> Result<(), String> {
        let said = |e: std::io::Error| format!("decompress pages: {e}");
        if self.count * (PAGE + 4) <= ONE_PIECE {
            let body = zstd::bulk::decompress(&self.packed, self.count * (PAGE + 4)).map_err(said)?;
            if body.len() != self.count * (PAGE + 4) {
                return Err("fewer pages than it says".into());
            }
            let (numbers, pages) = body.split_at(self.count * 4);
            let numbers = numbers_of(numbers);
            before(numbers.clone());
            return numbers.into_iter().zip(pages.chunks_exact(PAGE)).try_for_each(|(n, page)| take(n, page));
        }
        let mut body = zstd::stream::read::Decoder::new(self.packed.as_slice()).map_err(said)?;
        let mut numbers = vec![0; self.count * 4];
        body.read_exact(&mut numbers).map_err(said)?;
        let numbers = numbers_of(&numbers);
        before(numbers.clone());
        let mut page = [0u8; PAGE];
        for n in numbers {
            body.read_exact(&mut page).map_err(said)?;
            take(n, &page)?;
        }
        Ok(())
    }

    /// Turns memory that holds what lies below into what was encoded.
    pub fn apply(&self, memory: &mut [u8]) -> Result<(), String> {
        let target = memory.as_mut_ptr() as usize;
        let length = memory.len();
        self.each(
            |n, page| {
                let to = memory.get_mut(n * PAGE..(n + 1) * PAGE).ok_or("a page outside memory")?;
                to.iter_mut().zip(page).for_each(|(to, page)| *to ^= page);
                Ok(())
            },
            // Copied in one call: a page that is first read and then written costs two faults.
            |numbers| sys::populate(target, length, numbers),
        )
    }
}

fn numbers_of(bytes: &[u8]) -> Vec<usize> {
    bytes.chunks_exact(4).map(|n| u32::from_le_bytes(n.try_into().expect("four bytes")) as usize).collect()
}
