//! A module that guests run: made ready once, compiled when it is first needed.

use std::sync::Mutex;

use wasmtime::{Engine, InstancePre, Linker, Module};

use crate::host::Host;
use crate::image::{Hash, Kind};
use crate::layers::hash_of;
use crate::module::{self, Cache, Prepared};

pub struct Code {
    pub kind: Kind,
    /// SHA-256 of the module as it was given: what images are bound to.
    pub hash: Hash,
    pub globals: Vec<String>,
    prepared: Prepared,
    pre: Mutex<Option<InstancePre<Host>>>,
}

impl Code {
    pub fn new(kind: Kind, wasm: &[u8]) -> Result<Code, String> {
        let mut prepared = module::prepare(wasm)?;
        let globals = std::mem::take(&mut prepared.globals);
        Ok(Code { kind, hash: hash_of(wasm), globals, prepared, pre: Mutex::new(None) })
    }

    fn linker(&self, engine: &Engine, module: &Module) -> Result<Linker<Host>, String> {
        match self.kind {
            Kind::Js => crate::host::linker(engine).map_err(|e| format!("link: {e:#}")),
            Kind::Core => crate::core_guest::linker(engine, module),
        }
    }

    /// What is instantiated, over images and for the boot.
    pub fn pre(&self, engine: &Engine, cache: Option<&Cache>) -> Result<InstancePre<Host>, String> {
        let mut pre = self.pre.lock().expect("module");
        if let Some(known) = &*pre {
            return Ok(known.clone());
        }
        let module = module::compile(engine, &self.prepared.bare, cache)?;
        let linked = self.linker(engine, &module)?.instantiate_pre(&module).map_err(|e| format!("link: {e:#}"))?;
        *pre = Some(linked.clone());
        Ok(linked)
    }

    /// What memory begins with: where, and which bytes.
    pub fn data(&self) -> &[(usize, Vec<u8>)] {
        &self.prepared.data
    }

    pub fn starts(&self) -> bool {
        self.prepared.starts
    }
}
