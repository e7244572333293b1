//! What JavaScript sees: submit work by number, receive outcomes in batches.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};

use napi::bindgen_prelude::{Buffer, Function};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi_derive::napi;
use wasmtime::component::Component;
use wasmtime::Engine as Wasmtime;

use crate::code::Code;
use crate::core_guest::Core;
use crate::guest::{Failure, Guest, Turn};
use crate::home::{Bounds, Home, Pair, Stop, StopKind, Trouble, TurnReport};
use crate::image::{self, Hash, Kind};
use crate::instance::Instance;
use crate::layers::{hash_of, Flats, Image};
use crate::module::{self, Cache, Compiler};
use crate::lanes::JobKind;
use crate::pool::{Job, Pool, COMPILE_LANE, HOST_LANE};
use crate::quickjs::QuickJs;
use crate::snapshot::Snapshot;
use crate::{component, portable, rows, snapshot, sys};

#[napi(object)]
pub struct EngineOptions {
    pub threads: u32,
    /// `optimized`, `quick` or `pulley`.
    pub compiler: String,
    pub wasm: Buffer,
    pub cache_folder: Option<String>,
    pub cache_key: Option<Buffer>,
}

/// How one job ended. `status` is `ok`, `guest` (the guest's doing) or `host` (it never happened).
#[napi(object)]
pub struct Outcome {
    pub job: f64,
    pub status: String,
    pub kind: Option<String>,
    pub detail: Option<String>,
    pub output: Option<Buffer>,
    pub fuel: f64,
    pub micros: f64,
    pub home: Option<HomeReport>,
    /// The guest wanted more memory than it may have.
    pub denied: bool,
}

/// What a turn did to its home; left out if it did not touch it.
#[napi(object)]
pub struct HomeReport {
    pub digest: Buffer,
    /// Three numbers a stop: call, row, and 0 for spent steps or 1 for a full home.
    pub stops: Vec<u32>,
}

/// The home of an instance: one that `find_home` found, or the file that it makes once something is stored.
#[napi(object)]
pub struct HomeGiven {
    pub found: Option<u32>,
    pub file: String,
}

/// The fixed clock and seed under which images are built: same inputs, same bytes.
const IMAGE_CLOCK_MS: f64 = 1_767_225_600_000.0;
const IMAGE_SEED: [u8; 32] = [7; 32];
const IMAGE_FUEL: u64 = 20_000_000_000;
/// For what a program says of itself, and for a first turn that is thrown away.
const LOOK_FUEL: u64 = 2_000_000_000;
const IMAGE_MEMORY: usize = 256 << 20;

/// What an instance comes back from.
enum Saved {
    Copied(Vec<u8>),
    /// So large that nobody wants a copy of it; nobody writes it any more.
    Held(Buffer),
}

const LARGE: usize = 1 << 20;

impl std::ops::Deref for Saved {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Saved::Copied(bytes) => bytes,
            Saved::Held(bytes) => bytes,
        }
    }
}

impl From<Buffer> for Saved {
    fn from(bytes: Buffer) -> Saved {
        // Whatever is held is let go by the thread of JavaScript, which costs more than a small copy.
        if bytes.len() < LARGE { Saved::Copied(bytes.to_vec()) } else { Saved::Held(bytes) }
    }
}

enum State {
    Fresh,
    Saved(Saved),
    Live(Box<Guest>),
    Dead,
}

struct Slot {
    image: Arc<Image>,
    /// Until the instance is made.
    home: Mutex<Option<Home>>,
    state: Mutex<State>,
}

// Weak: the threads alone do not keep the process alive; JavaScript does while it waits for a job.
type Notify = ThreadsafeFunction<(), napi::Unknown<'static>, (), napi::Status, false, true>;

struct Outbox {
    ended: Mutex<Vec<Outcome>>,
    notify: Notify,
}

struct Shared {
    wasmtime: Wasmtime,
    quickjs: Arc<Code>,
    cache: Option<Cache>,
    /// Modules of core guests, while an image of theirs is loaded.
    modules: Mutex<HashMap<Hash, Weak<Code>>>,
    images: Mutex<HashMap<u32, Arc<Image>>>,
    flats: Arc<Flats>,
    slots: Mutex<HashMap<u32, Arc<Slot>>>,
    homes: Mutex<HashMap<u32, Home>>,
    components: Mutex<HashMap<u32, Component>>,
    compiler: Compiler,
    outbox: Outbox,
}

#[napi]
pub struct Engine {
    shared: Arc<Shared>,
    pool: Arc<Pool>,
}

#[derive(Default)]
struct Output {
    bytes: Vec<u8>,
    fuel: u64,
    home: TurnReport,
}

impl From<Vec<u8>> for Output {
    fn from(bytes: Vec<u8>) -> Output {
        Output { bytes, ..Output::default() }
    }
}

type Done = Result<Output, Failure>;

fn host(text: String) -> Failure {
    Failure::Host(text)
}

fn build_turn() -> Turn {
    Turn { clock_ms: IMAGE_CLOCK_MS, seed: IMAGE_SEED, fuel: IMAGE_FUEL, memory: IMAGE_MEMORY, bounds: Bounds::default(), repeat: None }
}

impl Shared {
    fn cache(&self) -> Option<&Cache> {
        self.cache.as_ref()
    }

    /// The code of a core module; compiled by whoever needs it.
    fn code(&self, wasm: &[u8]) -> Result<Arc<Code>, String> {
        let hash = hash_of(wasm);
        if let Some(known) = self.modules.lock().expect("modules").get(&hash).and_then(Weak::upgrade) {
            return Ok(known);
        }
        component::check_cost(wasm)?;
        let code = Arc::new(Code::new(Kind::Core, wasm)?);
        let mut modules = self.modules.lock().expect("modules");
        modules.retain(|_, known| known.strong_count() > 0);
        modules.insert(hash, Arc::downgrade(&code));
        Ok(code)
    }

    /// The lowest layer: QuickJS as it is before any script.
    fn boot(&self) -> Done {
        let code = &self.quickjs;
        let instance = Instance::fresh(&self.wasmtime, code, self.cache(), &build_turn())?;
        Ok(Guest::Js(QuickJs::boot(instance)?).into_image(code, None)?.into())
    }

    /// A script over a layer. That of the SDK leaves the functions by which turns are run.
    fn extend(&self, parent: &Arc<Image>, script: &[u8], name: &str, sdk: bool) -> Done {
        let mut guest = self.over(parent)?;
        let Guest::Js(js) = &mut guest else { return Err(host("scripts extend images of QuickJS".into())) };
        js.evaluate(script, name, &build_turn())?;
        if sdk {
            js.adopt_turn_functions()?;
        }
        js.settle_heap()?;
        Ok(guest.into_image(&parent.code, Some(parent))?.into())
    }

    /// The image of a core module.
    fn build(&self, wasm: &[u8]) -> Done {
        let refused = |detail: String| Failure::Guest { kind: "BadModule", detail };
        let code = self.code(wasm).map_err(refused)?;
        let instance = Instance::fresh(&self.wasmtime, &code, self.cache(), &build_turn())?;
        Ok(Guest::Core(Core::boot(instance)?).into_image(&code, None)?.into())
    }

    /// An instance for what the host itself does over an image.
    fn over(&self, image: &Arc<Image>) -> Result<Guest, Failure> {
        Guest::over(&self.wasmtime, image, self.cache(), None, None)
    }

    fn load(&self, bytes: &[u8], parent: Option<&Image>, wasm: Option<&[u8]>, base: bool) -> Result<Arc<Image>, String> {
        let file = image::decode(bytes)?;
        let code = match (file.kind, wasm) {
            (Kind::Js, _) => self.quickjs.clone(),
            (Kind::Core, Some(wasm)) => self.code(wasm)?,
            (Kind::Core, None) => return Err("the image of a module without its module".into()),
        };
        if file.module.is_some_and(|module| module != code.hash) {
            return Err("it was made of another module than this one".into());
        }
        Image::new(bytes, file, code, parent, base, self.flats.clone()).map(Arc::new)
    }

    fn with_guest(&self, slot: &Slot, work: impl FnOnce(&mut Guest) -> Done) -> Done {
        let mut state = slot.state.lock().expect("slot");
        let before = std::mem::replace(&mut *state, State::Dead);
        let mut guest = match before {
            State::Live(guest) => guest,
            State::Fresh => Box::new(self.instantiate(slot, None)?),
            State::Saved(bytes) => {
                let saved = snapshot::decode(&bytes, &slot.image.hash).map_err(host)?;
                Box::new(self.instantiate(slot, Some(&saved))?)
            }
            State::Dead => return Err(host("the instance is gone".into())),
        };
        // A failed turn leaves the slot dead: its memory must never be seen again.
        let done = work(&mut guest)?;
        *state = State::Live(guest);
        Ok(done)
    }

    fn instantiate(&self, slot: &Slot, saved: Option<&Snapshot<'_>>) -> Result<Guest, Failure> {
        let home = slot.home.lock().expect("home").take();
        Guest::over(&self.wasmtime, &slot.image, self.cache(), saved, home)
    }

    fn image(&self, id: u32) -> napi::Result<Arc<Image>> {
        let images = self.images.lock().expect("images");
        images.get(&id).cloned().ok_or_else(|| napi::Error::from_reason(format!("no image {id}")))
    }

    fn slot(&self, id: u32) -> napi::Result<Arc<Slot>> {
        let slots = self.slots.lock().expect("slots");
        slots.get(&id).cloned().ok_or_else(|| napi::Error::from_reason(format!("no instance {id}")))
    }
}

#[napi]
impl Engine {
    #[napi(constructor)]
    pub fn new(options: EngineOptions, notify: Function<'_, (), napi::Unknown<'static>>) -> napi::Result<Engine> {
        let reason = napi::Error::from_reason;
        let compiler = Compiler::named(&options.compiler).ok_or_else(|| reason(format!("no compiler {}", options.compiler)))?;
        let wasmtime = Wasmtime::new(&module::config(compiler).map_err(reason)?).map_err(|e| reason(format!("wasmtime: {e:#}")))?;
        let quickjs = Code::new(Kind::Js, &options.wasm).map_err(|e| reason(format!("QuickJS: {e}")))?;
        let cache = options.cache_folder.zip(options.cache_key).map(|(folder, key)| Cache {
            folder: PathBuf::from(folder),
            key: key.to_vec(),
        });
        let notify = notify.build_threadsafe_function::<()>().weak::<true>().build()?;
        let shared = Shared {
            wasmtime,
            quickjs: Arc::new(quickjs),
            cache,
            modules: Mutex::default(),
            images: Mutex::default(),
            flats: Arc::default(),
            slots: Mutex::default(),
            homes: Mutex::default(),
            components: Mutex::default(),
            compiler,
            outbox: Outbox { ended: Mutex::default(), notify },
        };
        Ok(Engine { shared: Arc::new(shared), pool: Pool::new(options.threads.max(1) as usize) })
    }

    /// Boots QuickJS; the output is the image that all others of QuickJS lie over.
    #[napi]
    pub fn boot(&self, job: f64) {
        self.submit(job, HOST_LANE, Shared::boot);
    }

    /// Evaluates a script over a loaded image; the output is a new image over it.
    #[napi]
    pub fn extend(&self, job: f64, parent: u32, script: Buffer, name: String, sdk: bool) -> napi::Result<()> {
        let (parent, script) = (self.shared.image(parent)?, script.to_vec());
        // A program's own code runs here: nothing of the node's waits behind it.
        let lane = if sdk { HOST_LANE } else { COMPILE_LANE };
        self.submit(job, lane, move |s| s.extend(&parent, &script, &name, sdk));
        Ok(())
    }

    /// Boots a core module; the output is its image.
    #[napi]
    pub fn build(&self, job: f64, wasm: Buffer) {
        let wasm = wasm.to_vec();
        self.submit(job, COMPILE_LANE, move |s| s.build(&wasm));
    }

    /// Loads image bytes under a number, over a parent that is loaded; the output is what the program declares of
    /// itself. `warm` are the events of a turn that is thrown away: it shows which pages instances write.
    #[napi]
    #[allow(clippy::too_many_arguments)]
    pub fn load(&self, job: f64, id: u32, bytes: Buffer, parent: Option<u32>, wasm: Option<Buffer>, described: bool, warm: Buffer) -> napi::Result<()> {
        let parent = parent.map(|id| self.shared.image(id)).transpose()?;
        let (bytes, wasm, warm) = (bytes.to_vec(), wasm.map(|wasm| wasm.to_vec()), warm.to_vec());
        let lane = if wasm.is_some() { COMPILE_LANE } else { HOST_LANE };
        self.submit(job, lane, move |s| {
            let image = s.load(&bytes, parent.as_deref(), wasm.as_deref(), !described).map_err(host)?;
            let mut about = Vec::new();
            if described {
                let mut guest = s.over(&image)?;
                let look = Turn { fuel: LOOK_FUEL, ..build_turn() };
                about = guest.describe(&look)?;
                let events = split(&warm).ok_or_else(|| host("events are cut off".into()))?;
                // Whatever comes of it: what it wrote is what others will write.
                let _ = guest.turn(&events, &look);
                image.learn(guest.instance());
            }
            s.images.lock().expect("images").insert(id, image);
            Ok(about.into())
        });
        Ok(())
    }

    /// Runs a first turn over a loaded image and throws it away; the output is what a save of it would be.
    #[napi]
    pub fn rehearse(&self, job: f64, image: u32, events: Buffer) -> napi::Result<()> {
        let (image, events) = (self.shared.image(image)?, events.to_vec());
        self.submit(job, COMPILE_LANE, move |s| {
            let mut guest = s.over(&image)?;
            let events = split(&events).ok_or_else(|| host("events are cut off".into()))?;
            guest.turn(&events, &Turn { fuel: LOOK_FUEL, ..build_turn() })?;
            guest.save(&image).map(Output::from)
        });
        Ok(())
    }

    /// What `rehearse` once made of this image: from here on saves lie over it.
    #[napi]
    pub fn set_first(&self, image: u32, first: &[u8]) -> napi::Result<()> {
        self.shared.image(image)?.set_first(first.to_vec()).map_err(napi::Error::from_reason)
    }

    /// Forgets an image; instances over it keep their mapping.
    #[napi]
    pub fn unload(&self, id: u32) {
        self.shared.images.lock().expect("images").remove(&id);
    }

    /// Reserves an instance over an image, or over an image and a snapshot. Memory is mapped at its first turn.
    #[napi]
    pub fn create(
        &self,
        instance: u32,
        image: u32,
        saved: Option<Buffer>,
        home: Option<HomeGiven>,
    ) -> napi::Result<()> {
        let home = match home {
            None => None,
            Some(given) => Some(match given.found {
                None => Home::new(PathBuf::from(given.file)),
                Some(found) => {
                    let known = self.shared.homes.lock().expect("homes").remove(&found);
                    known.ok_or_else(|| napi::Error::from_reason(format!("no home {found}")))?
                }
            }),
        };
        let image = self.shared.image(image)?;
        let state = saved.map_or(State::Fresh, |bytes| State::Saved(bytes.into()));
        let slot = Slot { image, home: Mutex::new(home), state: Mutex::new(state) };
        self.shared.slots.lock().expect("slots").insert(instance, Arc::new(slot));
        Ok(())
    }

    /// Runs one turn. `events` is a sequence of (u32 length, bytes); `seed` is 32 bytes.
    #[napi]
    #[allow(clippy::too_many_arguments)]
    pub fn deliver(
        &self,
        job: f64,
        instance: u32,
        lane: u32,
        events: &[u8],
        clock_ms: f64,
        seed: &[u8],
        fuel: f64,
        memory: f64,
        steps: f64,
        quota: f64,
        repeat: Option<Vec<u32>>,
    ) -> napi::Result<()> {
        let slot = self.shared.slot(instance)?;
        let seed: [u8; 32] =
            seed.try_into().map_err(|_| napi::Error::from_reason("a seed is 32 bytes"))?;
        let repeat = repeat.map(|stops| stops_of(&stops)).transpose()?;
        let bounds = Bounds { steps: steps as u64, quota: quota as u64 };
        let turn = Turn { clock_ms, seed, fuel: fuel as u64, memory: memory as usize, bounds, repeat };
        let events = events.to_vec();
        self.submit(job, lane, move |s| {
            let events = split(&events).ok_or_else(|| host("events are cut off".into()))?;
            s.with_guest(&slot, |guest| {
                let ended = guest.turn(&events, &turn)?;
                slot.image.learn(guest.instance());
                Ok(Output { bytes: ended.output, fuel: ended.fuel, home: ended.home })
            })
        });
        Ok(())
    }

    /// Saves a quiet instance; the output is a snapshot.
    #[napi]
    pub fn save(&self, job: f64, instance: u32, lane: u32) -> napi::Result<()> {
        let slot = self.shared.slot(instance)?;
        self.submit_save(job, lane, move |s| {
            let image = slot.image.clone();
            s.with_guest(&slot, |guest| guest.save(&image).map(Output::from))
        });
        Ok(())
    }

    /// Looks for the home in a file and reads its pair: i64 seq, u32 length of the hash, hash, bytes. No
    /// output: there is none, and whatever lay there is removed.
    #[napi]
    pub fn find_home(&self, job: f64, id: u32, file: String) {
        self.submit(job, HOST_LANE, move |s| {
            let (home, pair) = Home::find(PathBuf::from(file)).map_err(host)?;
            let Some(pair) = pair else { return Ok(Vec::new().into()) };
            let mut bytes = pair.seq.to_le_bytes().to_vec();
            bytes.extend_from_slice(&(pair.hash.len() as u32).to_le_bytes());
            bytes.extend_from_slice(&pair.hash);
            bytes.extend_from_slice(&pair.bytes);
            s.homes.lock().expect("homes").insert(id, home);
            Ok(bytes.into())
        });
    }

    /// Closes a home that was found and is not wanted.
    #[napi]
    pub fn drop_home(&self, id: u32) {
        self.shared.homes.lock().expect("homes").remove(&id);
    }

    /// Commits what an instance has stored together with its memory. The output: bytes of the write-ahead
    /// log, as u64.
    #[napi]
    pub fn commit_home(&self, job: f64, instance: u32, lane: u32, seq: f64, hash: &[u8], bytes: Buffer) -> napi::Result<()> {
        let slot = self.shared.slot(instance)?;
        let pair = Pair { seq: seq as i64, hash: hash.to_vec(), bytes: bytes.to_vec() };
        self.submit_save(job, lane, move |s| {
            s.with_guest(&slot, |guest| {
                let home = guest.home().ok_or_else(|| host("no home".into()))?;
                Ok(home.commit(&pair).map_err(host)?.to_le_bytes().to_vec().into())
            })
        });
        Ok(())
    }

    /// Reads for an operator, between turns. The output is JSON: rows, or what was wrong with the statement.
    #[napi]
    #[allow(clippy::too_many_arguments)]
    pub fn read_home(
        &self,
        job: f64,
        instance: u32,
        lane: u32,
        sql: String,
        max: u32,
        steps: f64,
        clock_ms: f64,
    ) -> napi::Result<()> {
        let slot = self.shared.slot(instance)?;
        self.submit(job, lane, move |s| {
            s.with_guest(&slot, |guest| {
                let mut found = rows::Rows::new(max as usize);
                let home = guest.home().ok_or_else(|| host("no home".into()))?;
                let done = home.read(&sql, steps as u64, clock_ms, &mut |statement| Ok(found.take(statement)));
                Ok(match done {
                    Ok(columns) => found.finish(&columns).into(),
                    Err(Trouble::Sql(error)) => rows::error(error.code, &error.message).into(),
                    Err(Trouble::Host(why) | Trouble::Turn { detail: why, .. }) => return Err(host(why)),
                })
            })
        });
        Ok(())
    }

    /// SQLite's own check of the file. The output is a list of what is wrong, as JSON.
    #[napi]
    pub fn check_home(&self, job: f64, instance: u32, lane: u32) -> napi::Result<()> {
        let slot = self.shared.slot(instance)?;
        self.submit(job, lane, move |s| {
            s.with_guest(&slot, |guest| {
                let found = guest.home().map_or(Ok(Vec::new()), Home::check).map_err(host)?;
                Ok(rows::texts(&found).into_bytes().into())
            })
        });
        Ok(())
    }

    /// Moves the write-ahead log of an instance's home into its file, right after its commit.
    #[napi]
    pub fn checkpoint_home(&self, job: f64, instance: u32, lane: u32) -> napi::Result<()> {
        let slot = self.shared.slot(instance)?;
        self.submit_save(job, lane, move |s| {
            s.with_guest(&slot, |guest| {
                guest.home().map_or(Ok(()), Home::checkpoint).map_err(host)?;
                Ok(Vec::new().into())
            })
        });
        Ok(())
    }

    /// Closes the file of an instance's home until its next turn, right after its commit.
    #[napi]
    pub fn park_home(&self, job: f64, instance: u32, lane: u32) -> napi::Result<()> {
        let slot = self.shared.slot(instance)?;
        self.submit_save(job, lane, move |s| {
            s.with_guest(&slot, |guest| {
                if let Some(home) = guest.home() {
                    home.park();
                }
                Ok(Vec::new().into())
            })
        });
        Ok(())
    }

    /// How many descriptors this process may have.
    #[napi]
    pub fn descriptors(&self) -> f64 {
        sys::descriptors() as f64
    }

    /// The same for a home that nobody has open.
    #[napi]
    pub fn checkpoint_file(&self, job: f64, file: String) {
        self.submit(job, HOST_LANE, move |_| {
            let (mut home, _) = Home::find(PathBuf::from(file)).map_err(host)?;
            home.checkpoint().map_err(host)?;
            Ok(Vec::new().into())
        });
    }

    /// Writes what an instance has stored into a file, right after its commit.
    #[napi]
    pub fn export_home(&self, job: f64, instance: u32, lane: u32, to: String) -> napi::Result<()> {
        let slot = self.shared.slot(instance)?;
        self.submit(job, lane, move |s| {
            s.with_guest(&slot, |guest| {
                let home = guest.home().ok_or_else(|| host("no home".into()))?;
                home.export(Path::new(&to)).map_err(host)?;
                Ok(Vec::new().into())
            })
        });
        Ok(())
    }

    /// What speaks against taking in a file that was exported. The output is a list, as JSON.
    #[napi]
    pub fn check_export(&self, job: f64, file: String) {
        self.submit(job, HOST_LANE, move |_| {
            let found = portable::problems(Path::new(&file)).map_err(host)?;
            Ok(rows::texts(&found).into_bytes().into())
        });
    }

    /// Makes a home out of such a file, under the number by which one that was found is known.
    #[napi]
    pub fn adopt_home(&self, job: f64, id: u32, from: String, to: String) {
        self.submit(job, HOST_LANE, move |s| {
            let home = portable::adopt(Path::new(&from), Path::new(&to)).map_err(host)?;
            s.homes.lock().expect("homes").insert(id, home);
            Ok(Vec::new().into())
        });
    }

    /// Compiles a component under a number. What is wrong with it is a failure of its own.
    #[napi]
    pub fn load_component(&self, job: f64, id: u32, bytes: Buffer) {
        let bytes = bytes.to_vec();
        // Apart from the node's own work: compiling takes long by nature.
        self.submit(job, COMPILE_LANE, move |s| {
            let engine = component::engine(s.compiler).map_err(host)?;
            let refused = |detail| Failure::Guest { kind: "BadComponent", detail };
            let loaded = component::load(&engine, &bytes).map_err(refused)?;
            s.components.lock().expect("components").insert(id, loaded);
            Ok(Vec::new().into())
        });
    }

    #[napi]
    pub fn unload_component(&self, id: u32) {
        self.shared.components.lock().expect("components").remove(&id);
    }

    /// Calls a component once. The output is one byte, 1 for an answer and 0 for an error of its own, and the text.
    #[napi]
    pub fn run_component(&self, job: f64, id: u32, lane: u32, input: String, fuel: f64, memory: f64) {
        self.submit(job, lane, move |s| {
            let found = s.components.lock().expect("components").get(&id).cloned();
            let component = found.ok_or_else(|| host(format!("no component {id}")))?;
            let answer = component::run(&component, &input, fuel as u64, memory as usize)
                .map_err(|stopped| Failure::Guest { kind: stopped.kind, detail: stopped.detail })?;
            let (mark, text) = match answer {
                Ok(text) => (1, text),
                Err(text) => (0, text),
            };
            let mut bytes = vec![mark];
            bytes.extend_from_slice(text.as_bytes());
            Ok(bytes.into())
        });
    }

    /// Releases an instance. Its home is closed when this returns, so that others may open it; giving memory
    /// back takes longer, and is done by turn threads that have nothing else to do. A turn that is running ends first, on its thread.
    #[napi]
    pub fn drop(&self, instance: u32) {
        let Some(slot) = self.shared.slots.lock().expect("slots").remove(&instance) else { return };
        slot.home.lock().expect("home").take();
        if let Ok(mut state) = slot.state.try_lock() {
            if let State::Live(guest) = &mut *state {
                drop(guest.take_home());
            }
        }
        self.pool.discard(Box::new(slot));
    }

    /// The share of a lane at the turn threads, where others have 100.
    #[napi]
    pub fn set_weight(&self, lane: u32, weight: u32) {
        self.pool.set_weight(lane, weight);
    }

    /// Outcomes since the last call.
    #[napi]
    pub fn take(&self) -> Vec<Outcome> {
        std::mem::take(&mut *self.shared.outbox.ended.lock().expect("outbox"))
    }

    #[napi]
    pub fn close(&self) {
        self.pool.close();
        self.shared.slots.lock().expect("slots").clear();
        self.shared.homes.lock().expect("homes").clear();
        self.shared.images.lock().expect("images").clear();
        self.shared.components.lock().expect("components").clear();
    }
}

impl Engine {
    fn submit(&self, job: f64, lane: u32, work: impl FnOnce(&Shared) -> Done + Send + 'static) {
        self.submit_as(JobKind::Turn, job, lane, work);
    }

    fn submit_save(&self, job: f64, lane: u32, work: impl FnOnce(&Shared) -> Done + Send + 'static) {
        self.submit_as(JobKind::Save, job, lane, work);
    }

    fn submit_as(&self, kind: JobKind, job: f64, lane: u32, work: impl FnOnce(&Shared) -> Done + Send + 'static) {
        let shared = self.shared.clone();
        let run = Box::new(move || {
            let began = std::time::Instant::now();
            // A panic of ours must reach JavaScript as a host failure, not as a job without end.
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(&shared)))
                .unwrap_or_else(|_| Err(host("the engine panicked".into())));
            shared.outbox.post(outcome(job, done, began.elapsed().as_micros() as f64));
        });
        self.pool.submit(Job { lane, kind, run });
    }
}

impl Outbox {
    fn post(&self, outcome: Outcome) {
        let mut ended = self.ended.lock().expect("outbox");
        ended.push(outcome);
        // One wake-up fetches everything that ended until JavaScript got round to it.
        if ended.len() == 1 {
            drop(ended);
            self.notify.call((), ThreadsafeFunctionCallMode::NonBlocking);
        }
    }
}

fn outcome(job: f64, done: Done, micros: f64) -> Outcome {
    let mut home = None;
    let (status, kind, detail, output, fuel) = match done {
        Ok(done) => {
            home = report(done.home);
            ("ok", None, None, Some(done.bytes.into()), done.fuel as f64)
        }
        Err(Failure::Guest { kind, detail }) => ("guest", Some(kind.to_string()), Some(detail), None, 0.0),
        Err(Failure::Host(detail)) => ("host", None, Some(detail), None, 0.0),
    };
    Outcome { job, status: status.into(), kind, detail, output, fuel, micros, home, denied: sys::take_denied() }
}

fn report(turn: TurnReport) -> Option<HomeReport> {
    let number = |kind| match kind {
        StopKind::Spent => 0,
        StopKind::Full => 1,
    };
    (turn.calls > 0).then(|| HomeReport {
        digest: turn.digest.into(),
        stops: turn.stops.iter().flat_map(|stop| [stop.call, stop.row, number(stop.kind)]).collect(),
    })
}

fn stops_of(numbers: &[u32]) -> napi::Result<Vec<Stop>> {
    let stop = |three: &[u32]| match three {
        [call, row, kind @ (0 | 1)] => {
            let kind = if *kind == 0 { StopKind::Spent } else { StopKind::Full };
            Ok(Stop { call: *call, row: *row, kind })
        }
        _ => Err(napi::Error::from_reason("a stop is three numbers")),
    };
    numbers.chunks(3).map(stop).collect()
}

fn split(mut bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut events = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_at_checked(4)?;
        let length = u32::from_le_bytes(length.try_into().ok()?) as usize;
        let (event, rest) = rest.split_at_checked(length)?;
        events.push(event);
        bytes = rest;
    }
    Some(events)
}
