//! Compiling: a core module is checked, stripped of what would overwrite an image, and compiled
//! once; the artefact is cached under a key of the node.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use wasmparser::{
    DataKind, ElementKind, ExternalKind, FunctionBody, Operator, Parser, Payload, TypeRef, ValType, Validator, WasmFeatures,
};
use wasmtime::{Config, Engine, Module, OptLevel};

use crate::sys;

const SECTION_EXPORT: u8 = 7;
const SECTION_START: u8 = 8;
const SECTION_DATA: u8 = 11;
const SECTION_DATA_COUNT: u8 = 12;
const SECTION_CUSTOM: u8 = 0;
const EXPORT_FUNCTION: u8 = 0;
const EXPORT_GLOBAL: u8 = 3;
const TAG_LEN: usize = 32;

/// Room for native frames under a guest. QuickJS's own limit (64 KB of its shadow stack) must be
/// met first on any compiler setting, so this is generous; it is address space, not memory.
pub const NATIVE_STACK: usize = 8 << 20;

/// How guests are run. What they do is the same under all of them, to the byte.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Compiler {
    /// Machine code, compiled for speed.
    Optimized,
    /// Machine code, compiled quickly.
    Quick,
    /// Wasmtime's own bytecode, where machine code may not be made.
    Pulley,
}

impl Compiler {
    pub fn named(name: &str) -> Option<Compiler> {
        match name {
            "optimized" => Some(Compiler::Optimized),
            "quick" => Some(Compiler::Quick),
            "pulley" => Some(Compiler::Pulley),
            _ => None,
        }
    }

    pub fn apply(self, config: &mut Config) -> Result<(), String> {
        config.cranelift_opt_level(if self == Compiler::Quick { OptLevel::None } else { OptLevel::Speed });
        if self == Compiler::Pulley {
            config.target("pulley64").map_err(|e| format!("pulley: {e:#}"))?;
        }
        Ok(())
    }
}

pub fn config(compiler: Compiler) -> Result<Config, String> {
    let mut config = Config::new();
    compiler.apply(&mut config)?;
    config
        .with_host_memory(std::sync::Arc::new(sys::Creator))
        .consume_fuel(true)
        .cranelift_nan_canonicalization(true)
        .wasm_relaxed_simd(false)
        .wasm_multi_memory(false)
        .wasm_memory64(false)
        .memory_init_cow(false)
        .memory_reservation(4 << 30)
        .memory_guard_size(2 << 20)
        .async_stack_size(NATIVE_STACK)
        .max_wasm_stack(NATIVE_STACK - (1 << 20))
        .wasm_backtrace_max_frames(None);
    Ok(config)
}

/// A core module made ready: what is compiled and instantiated over its images, what memory begins with, and the
/// globals whose values are part of its state.
pub struct Prepared {
    /// Without what would overwrite an image; so one compilation serves the boot as well.
    pub bare: Vec<u8>,
    /// What its data segments say: where, and which bytes.
    pub data: Vec<(usize, Vec<u8>)>,
    /// Whether it has a function to start with, exported as `START`.
    pub starts: bool,
    /// The names by which mutable globals are exported, in their order.
    pub globals: Vec<String>,
}

/// A mutable global that its module does not export is exported by us under this name and its number.
const OUR_GLOBAL: &str = "cardinal:global:";
/// The function that a module starts with is exported under this name.
pub const START: &str = "cardinal:start";
/// What a guest may begin with, of 64 KiB; what its globals may be; and the elements of all its tables, which lie
/// beside its memory.
const MOST_PAGES: u64 = 4096;
const MOST_GLOBALS: usize = 1000;
const MOST_ELEMENTS: u64 = 1_000_000;
const OURS: &str = "cardinal:";

/// Features whose state can be listed. The rest is off in `config` too.
fn features() -> WasmFeatures {
    WasmFeatures::MUTABLE_GLOBAL
        | WasmFeatures::SATURATING_FLOAT_TO_INT
        | WasmFeatures::SIGN_EXTENSION
        | WasmFeatures::REFERENCE_TYPES
        | WasmFeatures::MULTI_VALUE
        | WasmFeatures::BULK_MEMORY
        | WasmFeatures::SIMD
        | WasmFeatures::TAIL_CALL
        | WasmFeatures::EXTENDED_CONST
        | WasmFeatures::FLOATS
        | WasmFeatures::GC_TYPES
}

/// Refuses a module whose state could not be listed and so not be saved, naming the import, section or
/// instruction; and exports its mutable globals.
pub fn prepare(wasm: &[u8]) -> Result<Prepared, String> {
    let mut validator = Validator::new_with_features(features());
    validator.validate_all(wasm).map_err(|e| format!("it is no core module that is run here: {e}"))?;
    let mut memories = 0;
    let mut elements = 0u64;
    let mut globals: Vec<u32> = Vec::new();
    let mut count = 0u32;
    let mut exports: Vec<(String, ExternalKind, u32)> = Vec::new();
    let mut function = 0u32;
    let mut data = Vec::new();
    let mut start = None;
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.map_err(|e| format!("it is no core module: {e}"))? {
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import.map_err(|e| e.to_string())?;
                    if !matches!(import.ty, TypeRef::Func(_)) {
                        let what = format!("`{}.{}`", import.module, import.name);
                        return Err(format!("its import section: {what} is no function, and what others hold cannot be saved"));
                    }
                    function += 1;
                }
            }
            Payload::MemorySection(section) => {
                memories += section.count();
                for memory in section {
                    let pages = memory.map_err(|e| e.to_string())?.initial;
                    if !(1..=MOST_PAGES).contains(&pages) {
                        return Err(format!("its memory section: it begins with {pages} pages, and may with 1 to {MOST_PAGES}"));
                    }
                }
            }
            Payload::TableSection(section) => {
                for table in section {
                    elements = elements.saturating_add(table.map_err(|e| e.to_string())?.ty.initial);
                }
                if elements > MOST_ELEMENTS {
                    return Err(format!("its table section: {elements} elements, and {MOST_ELEMENTS} at most"));
                }
            }
            Payload::GlobalSection(section) => {
                for global in section {
                    let ty = global.map_err(|e| e.to_string())?.ty;
                    if ty.mutable {
                        let numeric = matches!(ty.content_type, ValType::I32 | ValType::I64 | ValType::F32 | ValType::F64);
                        if !numeric {
                            return Err(format!("its global section: mutable global {count} holds a reference or a vector, which cannot be saved"));
                        }
                        if globals.len() == MOST_GLOBALS {
                            return Err(format!("its global section: more than {MOST_GLOBALS} mutable globals"));
                        }
                        globals.push(count);
                    }
                    count += 1;
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export.map_err(|e| e.to_string())?;
                    if export.name.starts_with(OURS) {
                        return Err(format!("its export section: `{}` is a name of the runtime", export.name));
                    }
                    exports.push((export.name.to_owned(), export.kind, export.index));
                }
            }
            Payload::ElementSection(section) => {
                for (i, element) in section.into_iter().enumerate() {
                    if matches!(element.map_err(|e| e.to_string())?.kind, ElementKind::Passive) {
                        return Err(format!("its element section: segment {i} is passive, and whether it was dropped cannot be saved"));
                    }
                }
            }
            Payload::DataSection(section) => {
                for (i, segment) in section.into_iter().enumerate() {
                    let segment = segment.map_err(|e| e.to_string())?;
                    let DataKind::Active { offset_expr, .. } = segment.kind else {
                        return Err(format!("its data section: segment {i} is passive, and whether it was dropped cannot be saved"));
                    };
                    let at = constant(offset_expr.get_operators_reader());
                    let at = at.ok_or_else(|| format!("its data section: segment {i} does not stand at a plain number"))?;
                    data.push((at as u32 as usize, segment.data.to_vec()));
                }
            }
            Payload::StartSection { func, .. } => start = Some(func),
            Payload::CodeSectionEntry(body) => {
                check_tables(&body, function).map_err(|e| format!("its code section: {e}"))?;
                function += 1;
            }
            _ => {}
        }
    }
    if memories != 1 {
        return Err(format!("its memory section: {memories} memories, and exactly one can be saved"));
    }
    if !exports.iter().any(|(name, kind, _)| name == "memory" && *kind == ExternalKind::Memory) {
        return Err("its export section: there is no memory called `memory`".into());
    }
    let mut ours = Vec::new();
    let mut names = Vec::new();
    let theirs: HashMap<u32, &String> =
        exports.iter().filter(|(_, kind, _)| *kind == ExternalKind::Global).map(|(name, _, of)| (*of, name)).collect();
    for index in &globals {
        names.push(theirs.get(index).map_or_else(
            || {
                ours.push(*index);
                format!("{OUR_GLOBAL}{index}")
            },
            |name| (*name).clone(),
        ));
    }
    let mut added: Vec<(String, u8, u32)> = ours.into_iter().map(|i| (format!("{OUR_GLOBAL}{i}"), EXPORT_GLOBAL, i)).collect();
    added.extend(start.map(|func| (START.to_owned(), EXPORT_FUNCTION, func)));
    let bare = rewrite(wasm, &[SECTION_DATA, SECTION_DATA_COUNT, SECTION_START, SECTION_CUSTOM], &added)?;
    Ok(Prepared { bare, data, starts: start.is_some(), globals: names })
}

/// The number that an expression is, if it is nothing else.
fn constant(operators: wasmparser::OperatorsReader<'_>) -> Option<i32> {
    let mut found = operators.into_iter();
    match (found.next()?.ok()?, found.next()?.ok()?) {
        (Operator::I32Const { value }, Operator::End) => Some(value),
        _ => None,
    }
}

/// What a table holds cannot be read back, so nothing may write one.
fn check_tables(body: &FunctionBody<'_>, function: u32) -> Result<(), String> {
    for operator in body.get_operators_reader().map_err(|e| e.to_string())? {
        let what = match operator.map_err(|e| e.to_string())? {
            Operator::TableSet { .. } => "table.set",
            Operator::TableGrow { .. } => "table.grow",
            Operator::TableFill { .. } => "table.fill",
            Operator::TableCopy { .. } => "table.copy",
            Operator::TableInit { .. } => "table.init",
            Operator::ElemDrop { .. } => "elem.drop",
            Operator::DataDrop { .. } => "data.drop",
            Operator::MemoryInit { .. } => "memory.init",
            _ => continue,
        };
        return Err(format!("function {function} has `{what}`, and what that changes cannot be saved"));
    }
    Ok(())
}

/// The same module without the sections of these numbers, and with these exports: name, kind, number.
fn rewrite(wasm: &[u8], dropped: &[u8], added: &[(String, u8, u32)]) -> Result<Vec<u8>, String> {
    let mut out = wasm.get(..8).ok_or("too short for a module")?.to_vec();
    let mut at = 8;
    while at < wasm.len() {
        let start = at;
        let id = wasm[at];
        at += 1;
        let size = read_number(wasm, &mut at)?;
        let body = at;
        at = at.checked_add(size).filter(|end| *end <= wasm.len()).ok_or("truncated section")?;
        if dropped.contains(&id) {
            continue;
        }
        if id != SECTION_EXPORT || added.is_empty() {
            out.extend_from_slice(&wasm[start..at]);
            continue;
        }
        let mut from = body;
        let count = read_number(wasm, &mut from)? + added.len();
        let mut section = Vec::new();
        write_number(&mut section, count);
        section.extend_from_slice(&wasm[from..at]);
        for (name, kind, index) in added {
            write_number(&mut section, name.len());
            section.extend_from_slice(name.as_bytes());
            section.push(*kind);
            write_number(&mut section, *index as usize);
        }
        out.push(SECTION_EXPORT);
        write_number(&mut out, section.len());
        out.extend_from_slice(&section);
    }
    Ok(out)
}

/// An unsigned number as WASM writes it (LEB128).
fn read_number(bytes: &[u8], at: &mut usize) -> Result<usize, String> {
    let (mut number, mut shift) = (0usize, 0);
    loop {
        let byte = *bytes.get(*at).ok_or("truncated section")?;
        *at += 1;
        number |= ((byte & 0x7f) as usize) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
        if shift > 28 {
            return Err("a number that is too long".into());
        }
    }
}

fn write_number(out: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
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
