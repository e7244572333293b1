//! Compiling: a core module is checked, stripped of what would overwrite an image, and compiled
//! once; the artefact is cached under a key of the node.

use std::path::{Path, PathBuf};

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use wasmparser::{Parser, Payload};
use wasmtime::{Config, Engine, Module, OptLevel};

use crate::sys;

const SECTION_START: u8 = 8;
const SECTION_DATA: u8 = 11;
const SECTION_DATA_COUNT: u8 = 12;
const SECTION_CUSTOM: u8 = 0;
const TAG_LEN: usize = 32;

/// Room for native frames under a guest. QuickJS's own limit (64 KB of its shadow stack) must be
/// met first on any compiler setting, so this is generous; it is address space, not memory.
pub const NATIVE_STACK: usize = 8 << 20;

pub fn config(optimize: bool) -> Config {
    let mut config = Config::new();
    config
        .with_host_memory(std::sync::Arc::new(sys::Creator))
        .consume_fuel(true)
        .cranelift_nan_canonicalization(true)
        .cranelift_opt_level(if optimize { OptLevel::Speed } else { OptLevel::None })
        .memory_init_cow(false)
        .memory_reservation(4 << 30)
        .memory_guard_size(2 << 20)
        .async_stack_size(NATIVE_STACK)
        .max_wasm_stack(NATIVE_STACK - (1 << 20))
        .wasm_backtrace_max_frames(None);
    config
}

/// Refuses a module whose state could not be listed and so not be saved.
pub fn check(wasm: &[u8]) -> Result<(), String> {
    let mut memories = 0;
    let mut mutable = Vec::new();
    let mut exported = Vec::new();
    let mut globals = 0u32;
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.map_err(|e| format!("not a core module: {e}"))? {
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import.map_err(|e| e.to_string())?;
                    if !matches!(import.ty, wasmparser::TypeRef::Func(_)) {
                        return Err(format!("imports `{}`, which is not a function", import.name));
                    }
                }
            }
            Payload::MemorySection(section) => memories += section.count(),
            Payload::GlobalSection(section) => {
                for global in section {
                    if global.map_err(|e| e.to_string())?.ty.mutable {
                        mutable.push(globals);
                    }
                    globals += 1;
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export.map_err(|e| e.to_string())?;
                    if export.kind == wasmparser::ExternalKind::Global {
                        exported.push(export.index);
                    }
                }
            }
            Payload::DataSection(section) => {
                for data in section {
                    if matches!(data.map_err(|e| e.to_string())?.kind, wasmparser::DataKind::Passive) {
                        return Err("has a passive data segment".into());
                    }
                }
            }
            _ => {}
        }
    }
    if memories != 1 {
        return Err(format!("has {memories} memories; exactly one can be saved"));
    }
    match mutable.iter().find(|g| !exported.contains(g)) {
        Some(g) => Err(format!("mutable global {g} is not exported, so it cannot be saved")),
        None => Ok(()),
    }
}

/// The same module without data, data count, start and custom sections, so that instantiating it
/// over an image overwrites nothing.
pub fn strip(wasm: &[u8]) -> Result<Vec<u8>, String> {
    let dropped = [SECTION_DATA, SECTION_DATA_COUNT, SECTION_START, SECTION_CUSTOM];
    let mut out = wasm.get(..8).ok_or("too short for a module")?.to_vec();
    let mut at = 8;
    while at < wasm.len() {
        let start = at;
        let id = wasm[at];
        at += 1;
        let (mut size, mut shift) = (0usize, 0);
        loop {
            let byte = *wasm.get(at).ok_or("truncated section")?;
            at += 1;
            size |= ((byte & 0x7f) as usize) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        at = at.checked_add(size).filter(|end| *end <= wasm.len()).ok_or("truncated section")?;
        if !dropped.contains(&id) {
            out.extend_from_slice(&wasm[start..at]);
        }
    }
    Ok(out)
}

/// Where compiled artefacts are kept, and the key that says they are ours.
pub struct Cache {
    pub folder: PathBuf,
    pub key: Vec<u8>,
}

impl Cache {
    fn tag(&self, bytes: &[u8]) -> Vec<u8> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("any key length");
        mac.update(bytes);
        mac.finalize().into_bytes().to_vec()
    }

    fn read(&self, path: &Path) -> Option<Vec<u8>> {
        let bytes = std::fs::read(path).ok()?;
        let (tag, artefact) = bytes.split_at_checked(TAG_LEN)?;
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("any key length");
        mac.update(artefact);
        mac.verify_slice(tag).ok().map(|()| artefact.to_vec())
    }

    fn write(&self, path: &Path, artefact: &[u8]) -> std::io::Result<()> {
        std::fs::create_dir_all(&self.folder)?;
        let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
        std::fs::write(&temporary, [self.tag(artefact), artefact.to_vec()].concat())?;
        std::fs::rename(&temporary, path)
    }
}

/// Compiles, or loads the artefact of an earlier compilation. An artefact that does not
/// authenticate is compiled again, never loaded; one that cannot be written only costs time.
pub fn compile(engine: &Engine, wasm: &[u8], cache: Option<&Cache>) -> Result<Module, String> {
    let Some(cache) = cache else {
        return Module::new(engine, wasm).map_err(|e| format!("compile: {e:#}"));
    };
    let mut hash = Sha256::new();
    hash.update(wasm);
    hash.update(format!("{:?}", engine.precompile_compatibility_hash_value()));
    let path = cache.folder.join(format!("{}.cwasm", hex(&hash.finalize())));
    if let Some(artefact) = cache.read(&path) {
        if let Ok(module) = sys::load_artefact(engine, &artefact) {
            return Ok(module);
        }
    }
    let module = Module::new(engine, wasm).map_err(|e| format!("compile: {e:#}"))?;
    if let Ok(artefact) = module.serialize() {
        let _ = cache.write(&path, &artefact);
    }
    Ok(module)
}

trait Compatibility {
    fn precompile_compatibility_hash_value(&self) -> u64;
}

impl Compatibility for Engine {
    fn precompile_compatibility_hash_value(&self) -> u64 {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hasher = DefaultHasher::new();
        self.precompile_compatibility_hash().hash(&mut hasher);
        hasher.finish()
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
