//! Pages of memory as they differ from other memory: the body of images and of snapshots.
//!
//! Count of pages u32, then zstd of: page numbers (u32 each, little-endian), then the pages in that order, each
//! XORed with the page below, so that what did not change is zero. Where nothing lies below, that page counts as
//! zeros.

use std::borrow::Cow;
use std::cell::RefCell;
use std::io::{Cursor, Read, Write};

use zstd::bulk::{Compressor, Decompressor};

use crate::image::Reader;
use crate::sys::{self, PAGE};

/// Bodies up to this size are packed in one piece; larger ones in a stream, without a copy of them.
const ONE_PIECE: usize = 4 << 20;
const ZSTD_LEVEL: i32 = 1;

pub struct Delta<'a> {
    pub count: usize,
    packed: Cow<'a, [u8]>,
}

const ZEROS: [u8; PAGE] = [0; PAGE];

thread_local! {
    // Their tables are some hundred kilobytes: to make them anew costs more than to pack what an agent differs in.
    static PACKER: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static UNPACKER: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

fn with<T, R>(
    kept: &'static std::thread::LocalKey<RefCell<Option<T>>>,
    make: impl FnOnce() -> std::io::Result<T>,
    work: impl FnOnce(&mut T) -> std::io::Result<R>,
) -> std::io::Result<R> {
    kept.with_borrow_mut(|kept| {
        if kept.is_none() {
            *kept = Some(make()?);
        }
        work(kept.as_mut().expect("made above"))
    })
}

fn pack(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    with(&PACKER, || Compressor::new(ZSTD_LEVEL), |packer| packer.compress(bytes))
}

fn unpack(bytes: &[u8], most: usize) -> std::io::Result<Vec<u8>> {
    with(&UNPACKER, Decompressor::new, |unpacker| unpacker.decompress(bytes, most))
}

/// Appends what differs in `memory` to `out`, looking at `candidates` only.
pub fn encode<'a>(
    memory: &[u8],
    candidates: impl Iterator<Item = usize>,
    below: impl Fn(usize) -> Option<&'a [u8]>,
    mut out: Vec<u8>,
) -> Result<Vec<u8>, String> {
    let page = |n: usize| &memory[n * PAGE..(n + 1) * PAGE];
    let changed: Vec<usize> = candidates.filter(|n| page(*n) != below(*n).unwrap_or(&ZEROS)).collect();
    let mut scratch = [0u8; PAGE];
    let mut xored = |n: usize, to: &mut dyn Write| -> std::io::Result<()> {
        match below(n) {
            None => to.write_all(page(n)),
            Some(before) => {
                for ((to, a), b) in scratch.iter_mut().zip(page(n)).zip(before) {
                    *to = a ^ b;
                }
                to.write_all(&scratch)
            }
        }
    };
    out.extend_from_slice(&(changed.len() as u32).to_le_bytes());
    let numbers = changed.iter().flat_map(|n| (*n as u32).to_le_bytes());
    let size = changed.len() * (PAGE + 4);
    let said = |e: std::io::Error| format!("compress pages: {e}");
    if size <= ONE_PIECE {
        let mut body: Vec<u8> = Vec::with_capacity(size);
        body.extend(numbers);
        for n in &changed {
            xored(*n, &mut body).map_err(said)?;
        }
        out.extend(pack(&body).map_err(said)?);
        return Ok(out);
    }
    // Behind what is there already: nobody copies it again.
    let mut packer = zstd::stream::write::Encoder::new(out, ZSTD_LEVEL).map_err(said)?;
    packer.write_all(&numbers.collect::<Vec<u8>>()).map_err(said)?;
    for n in &changed {
        xored(*n, &mut packer).map_err(said)?;
    }
    packer.finish().map_err(said)
}

impl<'a> Delta<'a> {
    /// The rest of an image or a snapshot, where `count` stands before it.
    pub fn decode(mut from: Reader<'a>) -> Result<Delta<'a>, String> {
        Ok(Delta { count: from.u32()? as usize, packed: Cow::Borrowed(from.0) })
    }

    pub fn into_owned(self) -> Delta<'static> {
        Delta { count: self.count, packed: Cow::Owned(self.packed.into_owned()) }
    }

    /// The numbers of its pages, and the pages in that order, XORed with what lies below.
    fn open(&self) -> Result<(Vec<usize>, Box<dyn Read + '_>), String> {
        let said = |e: std::io::Error| format!("decompress pages: {e}");
        let mut body: Box<dyn Read> = if self.count * (PAGE + 4) <= ONE_PIECE {
            let body = unpack(&self.packed, self.count * (PAGE + 4)).map_err(said)?;
            if body.len() != self.count * (PAGE + 4) {
                return Err("fewer pages than it says".into());
            }
            Box::new(Cursor::new(body))
        } else {
            Box::new(zstd::stream::read::Decoder::new(&*self.packed).map_err(said)?)
        };
        let mut numbers = vec![0; self.count * 4];
        body.read_exact(&mut numbers).map_err(said)?;
        let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("four bytes")) as usize;
        Ok((numbers.chunks_exact(4).map(number).collect(), body))
    }

    /// Calls `take` with each page and its number; pages come XORed with what lies below.
    pub fn each(&self, take: impl FnMut(usize, &[u8]) -> Result<(), String>) -> Result<(), String> {
        let (numbers, body) = self.open()?;
        read_pages(&numbers, body, take)
    }

    /// Turns memory that holds what lies below into what was encoded; the numbers of its pages.
    pub fn apply(&self, memory: &mut [u8]) -> Result<Vec<usize>, String> {
        let (numbers, body) = self.open()?;
        // Copied in one call: a page that is first read and then written costs two faults.
        sys::populate(memory, &sys::ranges(numbers.clone()));
        read_pages(&numbers, body, |n, page| {
            let to = memory.get_mut(n * PAGE..(n + 1) * PAGE).ok_or("a page outside memory")?;
            to.iter_mut().zip(page).for_each(|(to, page)| *to ^= page);
            Ok(())
        })?;
        Ok(numbers)
    }
}

fn read_pages(numbers: &[usize], mut body: impl Read, mut take: impl FnMut(usize, &[u8]) -> Result<(), String>) -> Result<(), String> {
    let mut page = [0u8; PAGE];
    for n in numbers.iter().copied() {
        body.read_exact(&mut page).map_err(|e| format!("decompress pages: {e}"))?;
        take(n, &page)?;
    }
    Ok(())
}
