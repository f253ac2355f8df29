//! The processes under which Lakitu's commands run.
//!
//! A **keeper** is one small process for each thread that runs commands. It starts them, copies their
//! output to spools, enforces their deadlines, writes down how they ended, and kills everything they leave behind. It
//! outlives a killed runtime for a lease, so that the next runtime finds its commands still running.
//!
//! Keepers are forked by a **zygote** ([`Zygote`]), which `main` forks first of all. Where there is none (the library,
//! tests in one process) the executable `lakitu-keeper` ([`helper_main`]) starts a keeper the same way.
//!
//! Start reading at `keeper/mod.rs`; what is said over the socket is in `PROTOCOL.md`.

mod client;
mod error;
mod files;
mod helper;
mod keeper;
mod landlock;
mod launch;
mod leaf;
mod lines;
mod parent;
pub mod protocol;
mod spec;
mod sys;
mod tree;
mod wait;
mod zygote;

pub use client::Client;
pub use error::KeeperError;
pub use files::{boot_id, claim, is_alive, read_status, socket_path};
pub use helper::helper_main;
pub use landlock::confinement;
pub use protocol::VERSION as PROTOCOL_VERSION;
pub use spec::{
    Cgroup, Confine, Confinement, Isolation, KeeperSpec, Limits, Namespaces, SpawnOutcome, Spawned, Visible,
};
pub use sys::share_memory;
pub use zygote::Zygote;
