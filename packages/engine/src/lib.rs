//! The engine: a thin binding between Node and wasmtime.
//!
//! It boots a guest once into an image, maps that image copy-on-write under every instance, runs
//! turns on its own threads and hands each outcome back as a value. It knows nothing of agents,
//! cards or logs; every decision belongs to its caller.
//!
//! `sys` holds all unsafe code. `module` compiles, `guest` drives QuickJS over what
//! `host` binds, `image` and `snapshot`
//! are the two byte formats, `pool` owns the threads, `engine` is what JavaScript sees.

mod authorizer;
mod bridge;
mod engine;
mod functions;
mod guest;
mod home;
mod host;
mod image;
mod meter;
mod module;
mod names;
mod pool;
mod rowids;
mod rows;
mod snapshot;
mod sqlite;
mod statement;
mod sys;
