//! The engine: a thin binding between Node and wasmtime.
//!
//! It boots a guest once into an image, maps that image copy-on-write under every instance, runs
//! turns on its own threads and hands each outcome back as a value. It knows nothing of agents,
//! cards or logs; every decision belongs to its caller.
//!
//! `sys`, `sqlite` and `statement` hold all unsafe code. `module` checks and compiles, `code` is a module made
//! ready, `instance` one instance of it. A `guest` is `quickjs`, over what `host` binds, or any module
//! (`core_guest`). `image` and `snapshot` are the two byte formats, both of pages that differ (`delta`);
//! `layers` is how images lie in memory, `warm` which of their pages are written first. `pool` owns the threads,
//! `lanes` says whose job is next, `engine` is what JavaScript sees.
//!
//! `component` runs what others compiled, as functions without imports.
//!
//! `home` is an agent's SQLite as its turns see it, `connection`, `running` and `transaction` are parts of it;
//! `bridge` leads there from the guest. `authorizer` and `names` say what SQL of a guest may name,
//! `functions` what it finds, `meter` and `rowids` where it is stopped, `rows` how operators see it, `portable` how it leaves a node and comes in.

mod authorizer;
mod bridge;
mod code;
mod component;
mod connection;
mod core_guest;
mod delta;
mod engine;
mod first;
mod functions;
mod guest;
mod home;
mod host;
mod image;
mod instance;
mod lanes;
mod layers;
mod meter;
mod module;
mod names;
mod pool;
mod portable;
mod quickjs;
mod rowids;
mod rows;
mod running;
mod snapshot;
mod sqlite;
mod statement;
mod sys;
mod transaction;
mod warm;
