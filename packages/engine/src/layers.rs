//! Images as they lie in memory: layers on disk, flattened where many instances share them.
//!
//! An image over a parent is kept as it lies on disk, some kilobytes. A few instances of it map the parent's
//! memory and copy the pages in which the image differs; when there are more, or they are made often, the image
//! is flattened into one sealed memory of its own. That goes with the last instance that maps it, or once
//! others are made more often. So a thousand programs with one instance each share one parent, and a thousand
//! instances of one program share one image. Those that are restored share another: the image and its first turn.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock, Weak};

use sha2::{Digest, Sha256};

use crate::code::Code;
use crate::delta::Delta;
use crate::first::{short, First, FirstPages, Pages as FirstBody, SharedPages, Short};
use crate::image::{GlobalValue, Handles, Hash, ImageFile, Pages};
use crate::instance::{Instance, MOST_MEMORY};
use crate::snapshot;
use crate::sys::{self, Sealed, PAGE};
use crate::warm::Warm;

/// From so many instances at once on an image has memory of its own.
const MANY: usize = 8;
/// Or from so many that were made one after the other: by then copying pages has cost more than flattening.
const OFTEN: usize = 16;
/// A first turn with more memory is copied by each that is restored over it.
const MOST_FLAT: usize = 64 << 20;
/// So many bytes stay though nobody lives over them.
const KEPT: usize = 256 << 20;

/// Flattened images that stay for the next instance; the one that was used longest ago goes first.
#[derive(Default)]
pub struct Flats(Mutex<VecDeque<Arc<Sealed>>>);

impl Flats {
    fn used(&self, sealed: &Arc<Sealed>) {
        let mut kept = self.0.lock().expect("flats");
        match kept.iter().position(|known| Arc::ptr_eq(known, sealed)) {
            Some(at) if at + 1 == kept.len() => return,
            Some(at) => drop(kept.remove(at)),
            None => {}
        }
        kept.push_back(sealed.clone());
        let bytes = |kept: &VecDeque<Arc<Sealed>>| kept.iter().map(|one| one.bytes().len()).sum::<usize>();
        while kept.len() > 1 && bytes(&kept) > KEPT {
            kept.pop_front();
        }
    }
}

pub struct Image {
    /// SHA-256 of its bytes on disk.
    pub hash: Hash,
    pub code: Arc<Code>,
    pub handles: Handles,
    pub globals: Vec<GlobalValue>,
    pub memory_len: usize,
    warm: Warm,
    below: Option<Arc<Sealed>>,
    delta: Option<Delta<'static>>,
    /// Kept while the image itself is, for images that others lie over.
    kept: Option<Arc<Sealed>>,
    flat: Flat,
    first: OnceLock<First>,
    /// Its pages, while anybody lives over the image.
    first_pages: Mutex<SharedPages>,
    /// The image and they as one.
    first_flat: Flat,
    /// Of instances that map that.
    first_warm: Warm,
    live: AtomicUsize,
    flats: Arc<Flats>,
}

/// One sealed memory for many instances, once they are so many that it is worth it.
#[derive(Default)]
struct Flat {
    sealed: Mutex<Weak<Sealed>>,
    /// Instances made since it was made last.
    made: AtomicUsize,
}

impl Flat {
    fn known(&self) -> Option<Arc<Sealed>> {
        self.sealed.lock().expect("flat").upgrade()
    }

    /// Counts one more instance.
    fn is_often(&self) -> bool {
        self.made.fetch_add(1, SeqCst) + 1 >= OFTEN
    }

    fn require(&self, content: impl FnOnce() -> Result<Vec<u8>, String>) -> Result<Arc<Sealed>, String> {
        let mut sealed = self.sealed.lock().expect("flat");
        if let Some(known) = sealed.upgrade() {
            return Ok(known);
        }
        let made = Arc::new(seal(&content()?)?);
        *sealed = Arc::downgrade(&made);
        self.made.store(0, SeqCst);
        Ok(made)
    }
}

/// What an instance maps, and what it copies over it.
pub struct Mapping {
    pub sealed: Arc<Sealed>,
    over: bool,
    first: SharedPages,
}

/// What lies below the pages that an instance has not written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Lies {
    Image,
    /// It holds pages of that as copies of its own.
    Copies,
    /// The image and the first turn, in so many bytes of memory.
    First(usize),
}

impl Mapping {
    /// Of an instance that begins with so much memory.
    pub fn lies(&self, memory_len: usize) -> Lies {
        match &self.first {
            Some(first) => first.flat().map_or(Lies::Copies, |flat| Lies::First(flat.bytes().len().min(memory_len))),
            None if self.over => Lies::Copies,
            None => Lies::Image,
        }
    }
}

/// Counts an instance while it lives.
pub struct Lease(Arc<Image>);

impl Drop for Lease {
    fn drop(&mut self) {
        if self.0.live.fetch_sub(1, SeqCst) == 1 {
            // Nobody looks at them where a thread died with them.
            if let Ok(mut pages) = self.0.first_pages.lock() {
                *pages = None;
            }
        }
    }
}

pub fn hash_of(bytes: &[u8]) -> Hash {
    Sha256::digest(bytes).into()
}

impl Image {
    /// `bytes` are those of the file, `parent` the image that it lies over. With `keep`, others lie over this one.
    pub fn new(bytes: &[u8], file: ImageFile, code: Arc<Code>, parent: Option<&Image>, keep: bool, flats: Arc<Flats>) -> Result<Image, String> {
        if file.parent != parent.map(|image| image.hash) {
            return Err("it lies over another image than the one that was given".into());
        }
        let below = match parent {
            None => None,
            Some(parent) => Some(parent.flatten()?),
        };
        let (delta, whole) = match file.pages {
            Pages::Delta(delta) => (Some(delta), None),
            Pages::Whole(packed) => {
                let memory = zstd::bulk::decompress(&packed, file.memory_len).map_err(|e| format!("decompress image: {e}"))?;
                if memory.len() != file.memory_len {
                    return Err("an image shorter than it says".into());
                }
                (None, Some(memory))
            }
        };
        let mut image = Image {
            hash: hash_of(bytes),
            code,
            handles: file.handles,
            globals: file.globals,
            memory_len: file.memory_len,
            warm: Warm::default(),
            below,
            delta,
            kept: None,
            flat: Flat::default(),
            first: OnceLock::new(),
            first_pages: Mutex::default(),
            first_flat: Flat::default(),
            first_warm: Warm::default(),
            live: AtomicUsize::new(0),
            flats,
        };
        if let Some(memory) = whole {
            // One of an old format is all of itself.
            image.kept = Some(Arc::new(seal(&memory)?));
        } else if keep {
            image.kept = Some(image.flatten()?);
        }
        Ok(image)
    }

    pub fn lease(self: &Arc<Self>) -> Lease {
        self.live.fetch_add(1, SeqCst);
        Lease(self.clone())
    }

    /// The image as one sealed memory.
    fn flatten(&self) -> Result<Arc<Sealed>, String> {
        if let Some(kept) = &self.kept {
            return Ok(kept.clone());
        }
        self.flat.require(|| {
            let mut memory = vec![0; self.memory_len];
            if let Some(below) = &self.below {
                let shared = below.bytes().len().min(memory.len());
                memory[..shared].copy_from_slice(&below.bytes()[..shared]);
            }
            if let Some(delta) = &self.delta {
                delta.apply(&mut memory)?;
            }
            Ok(memory)
        })
    }

    /// What the next instance maps, which is over the first turn if that is given.
    pub fn map(&self, first: SharedPages) -> Result<Mapping, String> {
        if let Some(sealed) = first.as_ref().and_then(|first| first.flat().cloned()) {
            self.flats.used(&sealed);
            return Ok(Mapping { sealed, over: false, first });
        }
        if let Some(sealed) = self.kept.clone() {
            return Ok(Mapping { sealed, over: false, first });
        }
        // Those that are restored are about to have a memory of their own, which this one would stand beside.
        let few = first.is_some() || (!self.flat.is_often() && self.live.load(SeqCst) < MANY);
        let sealed = match (self.flat.known(), &self.below) {
            (Some(flat), _) => flat,
            (None, Some(below)) if few => {
                return Ok(Mapping { sealed: below.clone(), over: true, first });
            }
            _ => self.flatten()?,
        };
        self.flats.used(&sealed);
        Ok(Mapping { sealed, over: false, first })
    }

    /// Makes memory that `mapping` was mapped into the image's, or what the first turn left of that.
    pub fn complete(&self, mapping: &Mapping, memory: &mut [u8]) -> Result<(), String> {
        if mapping.first.as_ref().is_some_and(|first| first.flat().is_some()) {
            sys::populate(memory, &self.first_warm.ranges());
            return Ok(());
        }
        sys::populate(memory, &self.warm.ranges());
        if let (Some(delta), true) = (&self.delta, mapping.over) {
            delta.apply(memory)?;
        }
        if let Some(first) = &mapping.first {
            first.apply(memory);
        }
        Ok(())
    }

    /// Learns from what an instance wrote, after the turn for which it was made.
    pub fn learn(&self, instance: &mut Instance) {
        let Some(own) = instance.unlearned.take() else { return };
        let (warm, mapped) = match instance.lies {
            Lies::Image => (&self.warm, self.memory_len),
            Lies::First(mapped) => (&self.first_warm, mapped),
            // Pages that it had to copy look like those that it wrote.
            Lies::Copies => return,
        };
        if warm.wants_samples() {
            warm.learn(&sys::dirty_pages(instance.memory()).unwrap_or_default(), &own, mapped);
        }
    }

    /// What a first turn over it left, for saves to lie over; none before this was said, and it is said once.
    pub fn set_first(&self, bytes: Vec<u8>) -> Result<(), String> {
        let name = short(&hash_of(&bytes));
        let snapshot = snapshot::decode(&bytes, &self.hash)?;
        if snapshot.first.is_some() {
            return Err("a first turn over another".into());
        }
        let memory_len = snapshot.memory_len;
        if memory_len > MOST_MEMORY || memory_len % PAGE != 0 {
            return Err("a first turn with an impossible size".into());
        }
        let _ = self.first.set(First { name, bytes, memory_len, numbers: OnceLock::new() });
        Ok(())
    }

    pub fn first(&self) -> Result<SharedPages, String> {
        let Some(First { name, bytes, memory_len, numbers }) = self.first.get() else { return Ok(None) };
        if let (Some(numbers), Some(sealed)) = (numbers.get(), self.first_flat.known()) {
            let pages = FirstBody::Flat(sealed);
            return Ok(Some(Arc::new(FirstPages { name: *name, memory_len: *memory_len, numbers: numbers.clone(), pages })));
        }
        let mut known = self.first_pages.lock().expect("first");
        if known.is_none() {
            let content = self.content()?;
            let opened = snapshot::decode(bytes, &self.hash)?.pages(*name, |n| content.page(n))?;
            let _ = numbers.set(opened.numbers.clone());
            *known = Some(Arc::new(opened));
        }
        Ok(known.clone())
    }

    /// The first turn by its name, for an instance that is saved over it. When that is done often, it becomes memory
    /// that instances map.
    pub fn first_named(&self, name: Short) -> Result<Arc<FirstPages>, String> {
        let first = self.first()?.filter(|first| first.name == name).ok_or("a snapshot over another first turn")?;
        let many = self.live.load(SeqCst) >= MANY;
        let memory_len = self.memory_len.max(first.memory_len);
        if first.flat().is_some() || memory_len > MOST_FLAT || !(self.first_flat.is_often() || many) {
            return Ok(first);
        }
        let sealed = self.first_flat.require(|| {
            let content = self.content()?;
            let mut memory = vec![0; memory_len];
            for (n, to) in memory.chunks_exact_mut(PAGE).enumerate() {
                if let Some(page) = first.page(n).or_else(|| content.page(n)) {
                    to.copy_from_slice(page);
                }
            }
            Ok(memory)
        })?;
        // Whoever maps it holds it; the copy is not needed any more.
        *self.first_pages.lock().expect("first") = None;
        Ok(Arc::new(FirstPages { name, memory_len: first.memory_len, numbers: first.numbers.clone(), pages: FirstBody::Flat(sealed) }))
    }

    /// What saves are compared with: the first turn where it is mapped, which holds the image too, or else the image.
    pub fn below_saves(&self, first: &SharedPages) -> Result<Content, String> {
        match first.as_ref().and_then(|first| first.flat()) {
            Some(flat) => Ok(Content { sealed: Some(flat.clone()), over: Vec::new(), pages: Vec::new() }),
            None => self.content(),
        }
    }

    /// The image's own pages, for whoever compares with them.
    pub fn content(&self) -> Result<Content, String> {
        let kept = self.kept.clone().or_else(|| self.flat.known());
        if let Some(sealed) = kept {
            return Ok(Content { sealed: Some(sealed), over: Vec::new(), pages: Vec::new() });
        }
        let mut content = Content { sealed: self.below.clone(), over: Vec::new(), pages: Vec::new() };
        if let Some(delta) = &self.delta {
            let below = self.below.clone();
            let zeros = [0u8; PAGE];
            let (mut over, mut pages) = (Vec::with_capacity(delta.count), Vec::with_capacity(delta.count * PAGE));
            delta.each(|n, page| {
                let before = below.as_ref().and_then(|b| b.bytes().get(n * PAGE..(n + 1) * PAGE)).unwrap_or(&zeros);
                over.push(n);
                pages.extend(page.iter().zip(before).map(|(a, b)| a ^ b));
                Ok(())
            })?;
            (content.over, content.pages) = (over, pages);
        }
        Ok(content)
    }
}

/// Pages of an image: those in which it differs from what lies below, and what lies below.
pub struct Content {
    sealed: Option<Arc<Sealed>>,
    /// Numbers of the pages, ascending.
    over: Vec<usize>,
    pages: Vec<u8>,
}

impl Content {
    pub fn page(&self, n: usize) -> Option<&[u8]> {
        if let Ok(at) = self.over.binary_search(&n) {
            return self.pages.get(at * PAGE..(at + 1) * PAGE);
        }
        self.sealed.as_ref().and_then(|sealed| sealed.bytes().get(n * PAGE..(n + 1) * PAGE))
    }
}

fn seal(memory: &[u8]) -> Result<Sealed, String> {
    Sealed::new(memory).map_err(|e| format!("seal image: {e}"))
}
