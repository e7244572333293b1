//! A disk that can lose power, for processes that do not know it.
//!
//! Preloaded into a node, it lets every write through and keeps, in `$POWERCUT_JOURNAL`, what each
//! written sector held before, until a sync of that file makes the write safe. After the process is
//! killed, the harness puts back a random choice of sectors: those that a power cut would have lost.
//! A rename is kept in the same way until its folder is synced; what it replaced stays as a link
//! beside the journal. Only files under `$POWERCUT_FOLDER` are watched.
//!
//! The journal is a sequence of records: u8 kind (1 undo, 2 safe, 3 renamed, 4 folder safe), u64
//! inode (of the file, or of the folder), and for an undo u64 offset, u32 length, u32 span, u64 file
//! length before, and the bytes that were there; for a rename u64 inode of the folder, and three
//! texts (u16 length, bytes): from, to, and the link to what was there. All little-endian.

use std::cell::Cell;
use std::ffi::{c_char, c_int, c_void};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, OnceLock};

const SECTOR: i64 = 512;

thread_local! {
    // The journal's own writes must not be watched.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

static JOURNAL: AtomicI32 = AtomicI32::new(-1);
static LOCK: Mutex<()> = Mutex::new(());

struct Real {
    pwrite: unsafe extern "C" fn(c_int, *const c_void, usize, i64) -> isize,
    write: unsafe extern "C" fn(c_int, *const c_void, usize) -> isize,
    fsync: unsafe extern "C" fn(c_int) -> c_int,
    fdatasync: unsafe extern "C" fn(c_int) -> c_int,
    rename: unsafe extern "C" fn(*const c_char, *const c_char) -> c_int,
}

fn real() -> &'static Real {
    static REAL: OnceLock<Real> = OnceLock::new();
    // SAFETY: the names are of libc functions with exactly these signatures.
    REAL.get_or_init(|| unsafe {
        let find = |name: &std::ffi::CStr| libc::dlsym(libc::RTLD_NEXT, name.as_ptr());
        Real {
            pwrite: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(c_int, *const c_void, usize, i64) -> isize>(find(c"pwrite64")),
            write: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(c_int, *const c_void, usize) -> isize>(find(c"write")),
            fsync: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(c_int) -> c_int>(find(c"fsync")),
            fdatasync: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(c_int) -> c_int>(find(c"fdatasync")),
            rename: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*const c_char, *const c_char) -> c_int>(find(c"rename")),
        }
    })
}

fn folder() -> Option<&'static [u8]> {
    static FOLDER: OnceLock<Option<Vec<u8>>> = OnceLock::new();
    FOLDER.get_or_init(|| std::env::var("POWERCUT_FOLDER").ok().map(String::into_bytes)).as_deref()
}

fn journal() -> c_int {
    let known = JOURNAL.load(Ordering::Acquire);
    if known >= 0 {
        return known;
    }
    let Ok(path) = std::env::var("POWERCUT_JOURNAL") else { return -1 };
    let Ok(path) = std::ffi::CString::new(path) else { return -1 };
    // SAFETY: a valid C string; the descriptor is kept for the life of the process.
    let fd = unsafe { libc::open(path.as_ptr() as *const c_char, libc::O_WRONLY | libc::O_CREAT | libc::O_APPEND | libc::O_CLOEXEC, 0o600) };
    JOURNAL.store(fd, Ordering::Release);
    fd
}

/// The inode of a watched regular file, and its length.
fn watched(fd: c_int) -> Option<(u64, i64)> {
    let stat = stat_of(fd)?;
    (stat.st_mode & libc::S_IFMT == libc::S_IFREG).then_some((stat.st_ino, stat.st_size))
}

/// What is open under a descriptor, if it lies in the watched folder.
fn stat_of(fd: c_int) -> Option<libc::stat> {
    let folder = folder()?;
    let mut link = [0u8; 4096];
    let proc = std::ffi::CString::new(format!("/proc/self/fd/{fd}")).ok()?;
    // SAFETY: the buffer is as long as said; stat is filled by fstat before it is read.
    unsafe {
        let n = libc::readlink(proc.as_ptr(), link.as_mut_ptr() as *mut c_char, link.len());
        if n <= 0 || !link[..n as usize].starts_with(folder) {
            return None;
        }
        let mut stat: libc::stat = std::mem::zeroed();
        (libc::fstat(fd, &mut stat) == 0).then_some(stat)
    }
}

fn inode_of(path: &std::path::Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).ok().map(|m| m.ino())
}

/// Notes a rename in the watched folder, and keeps what it is about to replace.
fn before_rename(from: &std::path::Path, to: &std::path::Path) {
    use std::os::unix::ffi::OsStrExt;
    static COUNT: AtomicI32 = AtomicI32::new(0);
    let inside = folder().is_some_and(|f| to.as_os_str().as_bytes().starts_with(f));
    let (Some(inode), Some(parent)) = (inode_of(from), to.parent().and_then(inode_of)) else { return };
    if !inside {
        return;
    }
    let mut kept = String::new();
    if to.exists() {
        let journal = std::env::var("POWERCUT_JOURNAL").unwrap_or_default();
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        kept = format!("{journal}.{}.{n}", std::process::id());
        if std::fs::hard_link(to, &kept).is_err() {
            return;
        }
    }
    let mut out = vec![3u8];
    out.extend_from_slice(&inode.to_le_bytes());
    out.extend_from_slice(&parent.to_le_bytes());
    for text in [from.as_os_str().as_bytes(), to.as_os_str().as_bytes(), kept.as_bytes()] {
        out.extend_from_slice(&(text.len() as u16).to_le_bytes());
        out.extend_from_slice(text);
    }
    record(&out);
}

fn record(bytes: &[u8]) {
    let fd = journal();
    if fd >= 0 {
        // SAFETY: a live slice and our own descriptor.
        unsafe { (real().write)(fd, bytes.as_ptr() as *const c_void, bytes.len()) };
    }
}

/// Keeps what the touched sectors hold now.
fn before_write(fd: c_int, offset: i64, len: usize) {
    if len == 0 {
        return;
    }
    let Some((inode, size)) = watched(fd) else { return };
    let from = offset / SECTOR * SECTOR;
    let to = (offset + len as i64 + SECTOR - 1) / SECTOR * SECTOR;
    let mut old = vec![0u8; (to - from) as usize];
    // SAFETY: the descriptor may be write-only, so the bytes are read through a fresh one.
    let got = unsafe {
        let proc = std::ffi::CString::new(format!("/proc/self/fd/{fd}")).expect("no zero in a number");
        let reader = libc::open(proc.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        if reader < 0 {
            return;
        }
        let got = libc::pread(reader, old.as_mut_ptr() as *mut c_void, old.len(), from);
        libc::close(reader);
        got
    };
    if got < 0 {
        return;
    }
    old.truncate(got as usize);
    let mut out = vec![1u8];
    out.extend_from_slice(&inode.to_le_bytes());
    out.extend_from_slice(&(from as u64).to_le_bytes());
    out.extend_from_slice(&(old.len() as u32).to_le_bytes());
    out.extend_from_slice(&((to - from) as u32).to_le_bytes());
    out.extend_from_slice(&(size as u64).to_le_bytes());
    out.extend_from_slice(&old);
    record(&out);
}

fn after_sync(fd: c_int) {
    let Some(stat) = stat_of(fd) else { return };
    let kind = match stat.st_mode & libc::S_IFMT {
        libc::S_IFREG => 2u8,
        libc::S_IFDIR => 4u8,
        _ => return,
    };
    let mut out = vec![kind];
    out.extend_from_slice(&stat.st_ino.to_le_bytes());
    record(&out);
}

/// Runs `work` with the journal locked, unless this thread is already inside. A child between fork
/// and exec does nothing here: it may have inherited the lock from a thread that it does not have.
fn guarded(work: impl FnOnce()) {
    static OWNER: OnceLock<u32> = OnceLock::new();
    if *OWNER.get_or_init(std::process::id) != std::process::id() {
        return;
    }
    INSIDE.with(|inside| {
        if inside.replace(true) {
            return;
        }
        let _lock = LOCK.lock();
        work();
        inside.set(false);
    });
}

/// # Safety
/// As `pwrite(2)`.
#[no_mangle]
pub unsafe extern "C" fn pwrite64(fd: c_int, from: *const c_void, len: usize, offset: i64) -> isize {
    guarded(|| before_write(fd, offset, len));
    (real().pwrite)(fd, from, len, offset)
}

/// # Safety
/// As `pwrite(2)`.
#[no_mangle]
pub unsafe extern "C" fn pwrite(fd: c_int, from: *const c_void, len: usize, offset: i64) -> isize {
    pwrite64(fd, from, len, offset)
}

/// # Safety
/// As `write(2)`.
#[no_mangle]
pub unsafe extern "C" fn write(fd: c_int, from: *const c_void, len: usize) -> isize {
    guarded(|| {
        if fd > 2 && watched(fd).is_some() {
            let at = libc::lseek(fd, 0, libc::SEEK_CUR);
            if at >= 0 {
                before_write(fd, at, len);
            }
        }
    });
    (real().write)(fd, from, len)
}

/// # Safety
/// As `fsync(2)`.
#[no_mangle]
pub unsafe extern "C" fn fsync(fd: c_int) -> c_int {
    let done = (real().fsync)(fd);
    if done == 0 {
        guarded(|| after_sync(fd));
    }
    done
}

/// # Safety
/// As `fdatasync(2)`.
#[no_mangle]
pub unsafe extern "C" fn fdatasync(fd: c_int) -> c_int {
    let done = (real().fdatasync)(fd);
    if done == 0 {
        guarded(|| after_sync(fd));
    }
    done
}

/// # Safety
/// As `rename(2)`.
#[no_mangle]
pub unsafe extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    use std::os::unix::ffi::OsStrExt;
    guarded(|| {
        let path = |text: *const c_char| {
            std::path::PathBuf::from(std::ffi::OsStr::from_bytes(std::ffi::CStr::from_ptr(text).to_bytes()))
        };
        before_rename(&path(from), &path(to));
    });
    (real().rename)(from, to)
}
