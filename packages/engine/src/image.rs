//! The image format: a booted guest's memory, globals and handles, as it differs from its parent.
//!
//! `CARDIMG2`, kind u8 (0 QuickJS, 1 core), SHA-256 of the module 32, SHA-256 of the parent's image 32 (zeros:
//! none), memory length u32, handles 4 × i32, count of globals u16, each u8 type and u64 bits, count of pages
//! u32, then the pages (`delta`). Built under a fixed clock and seed, so the same inputs give the same bytes
//! on any machine, under any compiler.
//!
//! `CARDIMG1`, which is only read: five i32 (stack pointer and handles), memory length u32, zstd of the memory.

use crate::delta::Delta;
use crate::sys;

const MAGIC_1: &[u8; 8] = b"CARDIMG1";
const MAGIC: &[u8; 8] = b"CARDIMG2";
const HEADER_1: usize = 24;
/// An image larger than this is refused when read: no guest may start with more.
const MAX_MEMORY: usize = 1 << 30;
const NONE: Hash = [0; 32];

pub type Hash = [u8; 32];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Js,
    Core,
}

/// Where in the memory of a QuickJS guest the values live that the engine calls.
#[derive(Clone, Copy, Default)]
pub struct Handles {
    pub deliver: i32,
    pub collect: i32,
    pub describe: i32,
    pub undefined: i32,
}

impl Handles {
    fn words(self) -> [i32; 4] {
        [self.deliver, self.collect, self.describe, self.undefined]
    }
}

/// The value of a mutable global: 0 i32, 1 i64, 2 f32, 3 f64, and its bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GlobalValue {
    pub of: u8,
    pub bits: u64,
}

pub struct ImageFile {
    pub kind: Kind,
    /// None: an old one, made when there was one module.
    pub module: Option<Hash>,
    pub parent: Option<Hash>,
    pub memory_len: usize,
    pub handles: Handles,
    pub globals: Vec<GlobalValue>,
    pub pages: Pages,
}

pub enum Pages {
    Delta(Delta<'static>),
    /// All of memory, compressed.
    Whole(Vec<u8>),
}

pub fn write_globals(out: &mut Vec<u8>, globals: &[GlobalValue]) {
    out.extend_from_slice(&(globals.len() as u16).to_le_bytes());
    for global in globals {
        out.push(global.of);
        out.extend_from_slice(&global.bits.to_le_bytes());
    }
}

/// All but its pages, which come behind.
pub fn encode(
    kind: Kind,
    module: &Hash,
    parent: Option<&Hash>,
    memory_len: usize,
    handles: Handles,
    globals: &[GlobalValue],
) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.push(u8::from(kind == Kind::Core));
    out.extend_from_slice(module);
    out.extend_from_slice(parent.unwrap_or(&NONE));
    out.extend_from_slice(&(memory_len as u32).to_le_bytes());
    for word in handles.words() {
        out.extend_from_slice(&word.to_le_bytes());
    }
    write_globals(&mut out, globals);
    out
}

/// Reads numbers from the front of bytes.
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or("cut off")?;
        self.0 = rest;
        Ok(taken)
    }
    pub fn u8(&mut self) -> Result<u8, String> {
        Ok(self.take(1)?[0])
    }
    pub fn u32(&mut self) -> Result<u32, String> {
        Ok(u32::from_le_bytes(self.take(4)?.try_into().expect("four bytes")))
    }
    pub fn i32(&mut self) -> Result<i32, String> {
        Ok(self.u32()? as i32)
    }
    pub fn hash(&mut self) -> Result<Hash, String> {
        Ok(self.take(32)?.try_into().expect("32 bytes"))
    }
    pub fn globals(&mut self) -> Result<Vec<GlobalValue>, String> {
        let count = u16::from_le_bytes(self.take(2)?.try_into().expect("two bytes"));
        (0..count)
            .map(|_| {
                let of = self.u8()?;
                let bits = u64::from_le_bytes(self.take(8)?.try_into().expect("eight bytes"));
                Ok(GlobalValue { of, bits })
            })
            .collect()
    }
}

pub fn decode(bytes: &[u8]) -> Result<ImageFile, String> {
    if let Some(body) = bytes.strip_prefix(MAGIC_1.as_slice()) {
        return decode_1(body);
    }
    let mut from = Reader(bytes.strip_prefix(MAGIC.as_slice()).ok_or("not an image of this version")?);
    let kind = match from.u8()? {
        0 => Kind::Js,
        1 => Kind::Core,
        other => return Err(format!("an image of a kind {other} that is not known")),
    };
    let module = Some(from.hash()?);
    let parent = Some(from.hash()?).filter(|hash| *hash != NONE);
    let memory_len = checked_length(from.u32()?)?;
    let handles = Handles { deliver: from.i32()?, collect: from.i32()?, describe: from.i32()?, undefined: from.i32()? };
    let globals = from.globals()?;
    let delta = Delta::decode(from)?;
    if delta.count > memory_len / sys::PAGE {
        return Err("an image with more pages than memory".into());
    }
    let pages = Pages::Delta(delta.into_owned());
    Ok(ImageFile { kind, module, parent, memory_len, handles, globals, pages })
}

fn decode_1(body: &[u8]) -> Result<ImageFile, String> {
    let (header, packed) = body.split_at_checked(HEADER_1).ok_or("a truncated image")?;
    let word = |i: usize| i32::from_le_bytes(header[i * 4..i * 4 + 4].try_into().expect("four bytes"));
    let memory_len = checked_length(word(5) as u32)?;
    Ok(ImageFile {
        kind: Kind::Js,
        module: None,
        parent: None,
        memory_len,
        handles: Handles { deliver: word(1), collect: word(2), describe: word(3), undefined: word(4) },
        globals: vec![GlobalValue { of: 0, bits: u64::from(word(0) as u32) }],
        pages: Pages::Whole(packed.to_vec()),
    })
}

fn checked_length(length: u32) -> Result<usize, String> {
    let length = length as usize;
    if length > MAX_MEMORY || length % sys::PAGE != 0 {
        return Err("an image with an impossible memory size".into());
    }
    Ok(length)
}
