//! All unsafe code of the engine: mapped linear memory, artefact loading, thread priority.

use std::cell::RefCell;
use std::ffi::CString;
use std::fs::File;
use std::path::Path;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use wasmtime::{Engine, LinearMemory, MemoryCreator, MemoryType, Module};

pub const PAGE: usize = 4096;
/// Memory is copied and given back in pieces of this size: nobody else can map or unmap anything meanwhile.
const AT_ONCE: usize = 4 << 20;
const SEAL_TRIES: u32 = 50;

/// Bytes sealed in memory that many instances map at once. Nobody can write them again.
pub struct Sealed {
    fd: OwnedFd,
    base: *const u8,
    len: usize,
}

// SAFETY: what `base` points to is sealed: nobody writes it, from any thread.
unsafe impl Send for Sealed {}
// SAFETY: as above.
unsafe impl Sync for Sealed {}

impl Drop for Sealed {
    fn drop(&mut self) {
        // SAFETY: exactly what mmap returned; instances have mappings of their own.
        unsafe { libc::munmap(self.base.cast_mut().cast(), self.len) };
    }
}

impl Sealed {
    /// Copies `bytes`, whose length is a multiple of the page size, into a sealed memory file. Pages of zeros
    /// take no memory.
    pub fn new(bytes: &[u8]) -> std::io::Result<Sealed> {
        assert!(!bytes.is_empty() && bytes.len() % PAGE == 0, "an image is a whole number of pages");
        // SAFETY: the name is a valid C string; the descriptor is checked before it is owned.
        let raw = unsafe {
            libc::memfd_create(c"cardinal-image".as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING)
        };
        if raw < 0 {
            return Err(std::io::Error::last_os_error());
        }
        // SAFETY: `raw` is a fresh descriptor that nothing else owns.
        let file = File::from(unsafe { OwnedFd::from_raw_fd(raw) });
        file.set_len(bytes.len() as u64)?;
        let written = bytes.chunks_exact(PAGE).enumerate().filter(|(_, page)| page.iter().any(|b| *b != 0));
        for (at, len) in ranges(written.map(|(n, _)| n).collect()) {
            file.write_all_at(&bytes[at..at + len], at as u64)?;
        }
        let fd = OwnedFd::from(file);
        let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE | libc::F_SEAL_SEAL;
        // SAFETY: fcntl and mmap on a descriptor we own; the mapping can only be read.
        unsafe {
            let mut tries = 0;
            while libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals) != 0 {
                let error = std::io::Error::last_os_error();
                // The kernel itself may hold a page for a moment, as while it moves it.
                if error.raw_os_error() != Some(libc::EBUSY) || tries == SEAL_TRIES {
                    return Err(error);
                }
                tries += 1;
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            let base = libc::mmap(std::ptr::null_mut(), bytes.len(), libc::PROT_READ, libc::MAP_PRIVATE, fd.as_raw_fd(), 0);
            if base == libc::MAP_FAILED {
                return Err(std::io::Error::last_os_error());
            }
            Ok(Sealed { fd, base: base.cast(), len: bytes.len() })
        }
    }

    pub fn bytes(&self) -> &[u8] {
        // SAFETY: mapped for as long as `self` lives, and sealed.
        unsafe { std::slice::from_raw_parts(self.base, self.len) }
    }
}

/// Pages as (first byte, bytes), neighbours together.
pub fn ranges(mut pages: Vec<usize>) -> Vec<(usize, usize)> {
    pages.sort_unstable();
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for page in pages {
        match ranges.last_mut() {
            Some((at, len)) if *at + *len == page * PAGE => *len += PAGE,
            _ => ranges.push((page * PAGE, PAGE)),
        }
    }
    ranges
}

/// Copies pages of a private mapping now instead of when each is written. Where the kernel cannot, they
/// are copied then.
pub fn populate(memory: &mut [u8], ranges: &[(usize, usize)]) {
    for (at, len) in ranges {
        let end = (*at + *len).min(memory.len());
        let Some(range) = memory.get_mut(*at..end) else { continue };
        for piece in range.chunks_mut(AT_ONCE) {
            // SAFETY: the range lies in memory that we hold exclusively; its contents do not change. Where it
            // is no mapping of pages, the call fails and does nothing.
            unsafe { libc::madvise(piece.as_mut_ptr().cast(), piece.len(), libc::MADV_POPULATE_WRITE) };
        }
    }
}

/// What the next memory created on this thread must look like.
struct Plan {
    image: Option<Arc<Sealed>>,
    /// Bytes that it begins with, if the image is shorter or longer.
    length: usize,
    maximum: Arc<AtomicUsize>,
}

thread_local! {
    // wasmtime creates an instance's memory on the thread that instantiates it, so a thread-local
    // plan set just before is exactly that instance's.
    static PLAN: RefCell<Option<Plan>> = const { RefCell::new(None) };
    static HOST_FAILED: RefCell<bool> = const { RefCell::new(false) };
    static DENIED: RefCell<bool> = const { RefCell::new(false) };
}

/// Sets what the next instantiation on this thread maps: an image or zeros, how long, and its hard maximum.
pub fn plan_memory(image: Option<Arc<Sealed>>, length: usize, maximum: Arc<AtomicUsize>) {
    PLAN.with(|p| *p.borrow_mut() = Some(Plan { image, length, maximum }));
}

/// Whether the host failed to back a growth below the maximum since the last call. The turn must
/// then be dropped unrecorded: the guest saw something that another machine would not show it.
pub fn take_host_failure() -> bool {
    HOST_FAILED.with(|f| std::mem::replace(&mut *f.borrow_mut(), false))
}

/// Whether memory met its maximum since the last call, on this thread.
pub fn take_denied() -> bool {
    DENIED.with(|denied| std::mem::replace(&mut *denied.borrow_mut(), false))
}

struct Mapped {
    base: *mut u8,
    reserved: usize,
    size: usize,
    /// What it may grow to at all, and what is allowed now.
    capacity: usize,
    maximum: Arc<AtomicUsize>,
    _image: Option<Arc<Sealed>>,
}

// SAFETY: the mapping belongs to this value alone; wasmtime synchronises access through its Store.
unsafe impl Send for Mapped {}
// SAFETY: as above; no method mutates through a shared reference.
unsafe impl Sync for Mapped {}

impl Drop for Mapped {
    fn drop(&mut self) {
        for at in (AT_ONCE..self.size).step_by(AT_ONCE) {
            // SAFETY: the range lies in our mapping, which nobody reads any more.
            unsafe { libc::madvise(self.base.add(at).cast(), AT_ONCE.min(self.size - at), libc::MADV_DONTNEED) };
        }
        // SAFETY: `base` and `reserved` are exactly what mmap returned, and the Store is gone.
        unsafe { libc::munmap(self.base.cast(), self.reserved) };
    }
}

// SAFETY: `as_ptr` stays fixed for the life of the value (the whole reservation is made up front),
// and `byte_size` bytes from it are always readable and writable.
unsafe impl LinearMemory for Mapped {
    fn byte_size(&self) -> usize {
        self.size
    }
    fn byte_capacity(&self) -> usize {
        self.capacity
    }
    fn grow_to(&mut self, new_size: usize) -> wasmtime::Result<()> {
        if new_size > self.capacity.min(self.maximum.load(Relaxed)) {
            DENIED.with(|denied| *denied.borrow_mut() = true);
            return Err(wasmtime::Error::msg("memory maximum"));
        }
        // SAFETY: the range lies inside our reservation, past what is in use.
        let rc = unsafe {
            libc::mprotect(
                self.base.add(self.size).cast(),
                new_size - self.size,
                libc::PROT_READ | libc::PROT_WRITE,
            )
        };
        if rc != 0 {
            HOST_FAILED.with(|f| *f.borrow_mut() = true);
            return Err(wasmtime::Error::msg("the host could not grow memory"));
        }
        self.size = new_size;
        Ok(())
    }
    fn as_ptr(&self) -> *mut u8 {
        self.base
    }
}

/// Creates each linear memory by the plan of its thread.
pub struct Creator;

// SAFETY: every memory is fully reserved with its guard, zero-filled or image-filled, and never
// moves, as `MemoryCreator` demands.
unsafe impl MemoryCreator for Creator {
    fn new_memory(
        &self,
        _ty: MemoryType,
        minimum: usize,
        maximum: Option<usize>,
        reserved: Option<usize>,
        guard: usize,
    ) -> Result<Box<dyn LinearMemory>, String> {
        let plan = PLAN.with(|p| p.borrow_mut().take()).ok_or("no memory was planned")?;
        let reserved = reserved.ok_or("memory needs a reservation")? + guard;
        let size = minimum.max(plan.length);
        let image_len = plan.image.as_ref().map_or(0, |i| i.len).min(size);
        let capacity = maximum.unwrap_or(usize::MAX).min(reserved - guard);
        let allowed = capacity.min(plan.maximum.load(Relaxed));
        if size > allowed {
            return Err(format!("{size} bytes to start with, {allowed} allowed"));
        }
        // SAFETY: a fresh anonymous reservation; the image is then mapped over its start with
        // MAP_FIXED, inside the reservation; protections are raised only within `size`.
        unsafe {
            let base = libc::mmap(
                std::ptr::null_mut(),
                reserved,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            );
            if base == libc::MAP_FAILED {
                return Err(format!("reserve: {}", std::io::Error::last_os_error()));
            }
            let memory = Mapped {
                base: base.cast(),
                reserved,
                size,
                capacity,
                maximum: plan.maximum.clone(),
                _image: plan.image.clone(),
            };
            let rw = libc::PROT_READ | libc::PROT_WRITE;
            if let Some(image) = &plan.image {
                let at = libc::mmap(base, image_len, rw, libc::MAP_PRIVATE | libc::MAP_FIXED, image.fd.as_raw_fd(), 0);
                if at == libc::MAP_FAILED {
                    return Err(format!("map image: {}", std::io::Error::last_os_error()));
                }
            }
            if size > image_len
                && libc::mprotect(memory.base.add(image_len).cast(), size - image_len, rw) != 0
            {
                return Err(format!("back memory: {}", std::io::Error::last_os_error()));
            }
            Ok(Box::new(memory))
        }
    }
}

/// The pages of `memory` that were written since it was mapped: present and anonymous, or swapped.
/// `None` where the kernel does not say; the caller then compares with the image.
pub fn dirty_pages(memory: &[u8]) -> Option<Vec<usize>> {
    static PAGEMAP: OnceLock<Option<File>> = OnceLock::new();
    let file = PAGEMAP.get_or_init(|| File::open("/proc/self/pagemap").ok()).as_ref()?;
    let pages = memory.len() / PAGE;
    let mut entries = vec![0u8; pages * 8];
    file.read_exact_at(&mut entries, (memory.as_ptr() as usize / PAGE * 8) as u64).ok()?;
    let dirty = |entry: &[u8]| {
        let bits = u64::from_le_bytes(entry.try_into().expect("eight bytes"));
        let (present, swapped, file_page) = (bits >> 63 & 1, bits >> 62 & 1, bits >> 61 & 1);
        swapped == 1 || (present == 1 && file_page == 0)
    };
    Some(entries.chunks_exact(8).enumerate().filter(|(_, e)| dirty(e)).map(|(i, _)| i).collect())
}

/// Loads a compiled artefact.
///
/// The caller must have authenticated `bytes` as the output of this engine: they become code.
pub fn load_artefact(engine: &Engine, bytes: &[u8]) -> wasmtime::Result<Module> {
    // SAFETY: the caller checked an HMAC over these bytes under a key of this node, so they are
    // what `Module::serialize` of the same wasmtime version wrote.
    unsafe { Module::deserialize(engine, bytes) }
}

/// The kernel's id of the calling thread.
pub fn thread_id() -> i32 {
    // SAFETY: gettid has no preconditions.
    unsafe { libc::syscall(libc::SYS_gettid) as i32 }
}

/// Lowers the priority of a thread of this process to a nice value. It cannot be raised again
/// without privileges, so the thread must end after its work.
pub fn demote(thread: i32, nice: i32) {
    // SAFETY: setpriority takes no pointers; a thread that is gone is an error we may ignore,
    // because then there is nothing left to demote.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, thread as libc::id_t, nice) };
}

/// Has a thread of this process run only where nobody else wants to. A nice value alone does not do that: who wakes
/// up still waits for the end of what the scheduler gave the other, which is milliseconds.
pub fn sink(thread: i32) {
    // SAFETY: a parameter of ours, which the call reads; a thread that is gone is an error we may ignore.
    unsafe {
        let priority: libc::sched_param = std::mem::zeroed();
        libc::sched_setscheduler(thread, libc::SCHED_IDLE, &priority);
    }
}

/// Processor time that a thread of this process has used; 0 if it is gone.
pub fn cpu_ns_of(thread: i32) -> u64 {
    // The clock of a thread by its id, as the kernel numbers them (`CPUCLOCK_PERTHREAD | CPUCLOCK_SCHED`).
    let clock = (!thread << 3) | 6;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a clock's number, and a place for its answer; of a thread that is gone the call fails and writes nothing.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Processor time that the calling thread has used.
pub fn thread_cpu_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a clock that every Linux has, and a place for its answer.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// How many descriptors this process may have open: the soft limit.
pub fn descriptors() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the limit is ours.
    let done = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    if done == 0 { limit.rlim_cur } else { 1024 }
}

/// Whether the disk of a file has next to no room: SQLite says the same of a file that reached its bound.
pub fn disk_is_full(file: &Path) -> bool {
    const ROOM: u64 = 1 << 20;
    let folder = file.parent().unwrap_or(file);
    let Ok(path) = CString::new(folder.as_os_str().as_encoded_bytes()) else { return false };
    // SAFETY: a path that ends with a zero byte, and a buffer of ours.
    let room = unsafe {
        let mut found: libc::statvfs = std::mem::zeroed();
        if libc::statvfs(path.as_ptr(), &mut found) != 0 {
            return false;
        }
        (found.f_bavail as u64).saturating_mul(found.f_frsize as u64)
    };
    room < ROOM
}
