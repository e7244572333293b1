//! What memory over an image looks like after a first turn that nobody asked for. Agents of one program resemble it,
//! so their saves hold what differs from it, a few hundred bytes where they have done little.
//!
//! It is itself a save, rehearsed once with words that are nobody's, and kept beside the image: later saves name it.

use std::sync::{Arc, OnceLock};

use crate::image::Hash;
use crate::sys::{self, Sealed, PAGE};

/// The front of a hash: of an image, or of a first turn.
pub type Short = [u8; 8];

pub fn short(hash: &Hash) -> Short {
    hash[..8].try_into().expect("eight of 32 bytes")
}

/// Its bytes, as they lie beside the image.
pub struct First {
    pub name: Short,
    pub bytes: Vec<u8>,
    pub memory_len: usize,
    /// Of its pages, once somebody has looked.
    pub numbers: OnceLock<Arc<[usize]>>,
}

/// The pages that it wrote, whole.
pub struct FirstPages {
    pub name: Short,
    /// Bytes of memory that it left.
    pub memory_len: usize,
    /// Their numbers, ascending.
    pub numbers: Arc<[usize]>,
    pub pages: Pages,
}

pub enum Pages {
    /// One after the other.
    Copied(Vec<u8>),
    /// In memory that holds the image and them.
    Flat(Arc<Sealed>),
}

impl FirstPages {
    pub fn page(&self, n: usize) -> Option<&[u8]> {
        let at = self.numbers.binary_search(&n).ok()?;
        match &self.pages {
            Pages::Copied(pages) => pages.get(at * PAGE..(at + 1) * PAGE),
            Pages::Flat(sealed) => sealed.bytes().get(n * PAGE..(n + 1) * PAGE),
        }
    }

    /// Memory that holds the image and them, if they were worth that.
    pub fn flat(&self) -> Option<&Arc<Sealed>> {
        match &self.pages {
            Pages::Flat(sealed) => Some(sealed),
            Pages::Copied(_) => None,
        }
    }

    /// Over memory that holds the image; what lies behind its end is left out.
    pub fn apply(&self, memory: &mut [u8]) {
        sys::populate(memory, &sys::ranges(self.numbers.to_vec()));
        for n in self.numbers.iter() {
            if let (Some(to), Some(page)) = (memory.get_mut(n * PAGE..(n + 1) * PAGE), self.page(*n)) {
                to.copy_from_slice(page);
            }
        }
    }
}

pub type SharedPages = Option<Arc<FirstPages>>;
