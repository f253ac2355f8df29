//! Where rows come from: the runtime that owns the store, or the file itself.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lakitu_actors::debug::artifacts::{self, ArtifactsGet, ArtifactsLs};
use lakitu_actors::debug::beads::{self, BeadsExport, BeadsLs, BeadsReady, BeadsShow};
use lakitu_actors::debug::edits;
use lakitu_actors::debug::protocol::{
    CheckpointsLs, DbBackup, DbDump, DbGet, EditsDiff, EditsLs, Nothing, ThreadsEvents, ThreadsLs, ThreadsReplay,
    ThreadsShow,
};
use lakitu_actors::debug::rows;
use lakitu_actors::store::{OpenStore, Reading, StoreError, verify};
use lakitu_actors::threads::replay::replay_file;
use lakitu_kernel::{ErrorCode, ThreadId, ToolError};
use serde::Serialize;
use serde_json::{Value, json};

use super::client::{Client, ClientError};
use super::{OWNED, Operator, Refusal, USAGE};
use crate::cli::paths::not_had;

/// A runtime owns the store a moment before it answers, and a moment after it has stopped to.
const OWNER_ANSWERS_WITHIN: Duration = Duration::from_secs(2);
const ASKED_EVERY: Duration = Duration::from_millis(20);

/// Answers the same, whoever is asked.
pub(super) struct Source {
    data: PathBuf,
    whom: Whom,
}

/// Who is asked.
enum Whom {
    /// A runtime owns the store.
    Runtime(Client),
    /// Nobody does.
    File(OpenStore),
    /// There is no store yet.
    Nothing(String),
}

impl Whom {
    /// The runtime if there is one, else the file.
    fn open(data: &Path) -> anyhow::Result<Self> {
        let begun = Instant::now();
        loop {
            match Client::connect(data) {
                Ok(client) => return Ok(Self::Runtime(client)),
                Err(ClientError::NoRuntime) => {}
                Err(error) => return Err(error.into()),
            }
            match OpenStore::read_only(data) {
                Ok(store) => return Ok(Self::File(store)),
                Err(StoreError::Invalid(why)) => return Ok(Self::Nothing(why)),
                Err(StoreError::Busy { .. }) if begun.elapsed() < OWNER_ANSWERS_WITHIN => {
                    std::thread::park_timeout(ASKED_EVERY);
                }
                Err(StoreError::Busy { pid }) => {
                    let whose = if pid == 0 { String::new() } else { format!(" {pid}") };
                    let data = data.display();
                    let message = format!("process{whose} owns {data} and does not answer on its debug socket");
                    return Err(Refusal::new(OWNED, message).into());
                }
                Err(error) => return Err(refused(not_had(data, error.into()))),
            }
        }
    }
}

impl Source {
    /// Of the operator's data directory.
    pub(super) fn open(operator: &Operator<'_>) -> anyhow::Result<Self> {
        Ok(Self { data: operator.data.to_owned(), whom: Whom::open(operator.data)? })
    }

    /// Why there is no store, where there is none.
    pub(super) fn nothing(&self) -> Option<&str> {
        match &self.whom {
            Whom::Nothing(why) => Some(why),
            Whom::Runtime(_) | Whom::File(_) => None,
        }
    }

    pub(super) fn threads_ls(&mut self, asked: ThreadsLs) -> anyhow::Result<Value> {
        self.ask("threads.ls", asked, rows::threads_ls)
    }

    pub(super) fn threads_show(&mut self, id: ThreadId) -> anyhow::Result<Value> {
        self.ask("threads.show", ThreadsShow { id }, |reading, asked| rows::threads_show(reading, asked.id))
    }

    pub(super) fn threads_events(&mut self, asked: ThreadsEvents) -> anyhow::Result<Value> {
        self.ask("threads.events", asked, rows::threads_events)
    }

    pub(super) fn threads_replay(&mut self, id: ThreadId) -> anyhow::Result<Value> {
        let file = |reading: &Reading, asked: ThreadsReplay| Ok(json!(replay_file(reading, asked.id)?));
        self.ask("threads.replay", ThreadsReplay { id }, file)
    }

    pub(super) fn checkpoints_ls(&mut self, asked: CheckpointsLs) -> anyhow::Result<Value> {
        self.ask("checkpoints.ls", asked, rows::checkpoints_ls)
    }

    pub(super) fn artifacts_ls(&mut self, asked: ArtifactsLs) -> anyhow::Result<Value> {
        self.ask("artifacts.ls", asked, artifacts::ls)
    }

    pub(super) fn artifacts_get(&mut self, asked: ArtifactsGet) -> anyhow::Result<Value> {
        self.ask("artifacts.get", asked, artifacts::get)
    }

    pub(super) fn beads_ls(&mut self, asked: BeadsLs) -> anyhow::Result<Value> {
        self.ask("beads.ls", asked, beads::ls)
    }

    pub(super) fn beads_ready(&mut self, asked: BeadsReady) -> anyhow::Result<Value> {
        self.ask("beads.ready", asked, beads::ready)
    }

    pub(super) fn beads_show(&mut self, asked: BeadsShow) -> anyhow::Result<Value> {
        self.ask("beads.show", asked, beads::show)
    }

    pub(super) fn beads_export(&mut self, asked: BeadsExport) -> anyhow::Result<Value> {
        self.ask("beads.export", asked, beads::export)
    }

    pub(super) fn edits_ls(&mut self, asked: EditsLs) -> anyhow::Result<Value> {
        self.ask("edits.ls", asked, edits::edits_ls)
    }

    pub(super) fn edits_diff(&mut self, asked: EditsDiff) -> anyhow::Result<Value> {
        self.ask("edits.diff", asked, edits::edits_diff)
    }

    pub(super) fn db_tables(&mut self) -> anyhow::Result<Value> {
        self.ask("db.tables", Nothing {}, |reading, _| rows::db_tables(reading))
    }

    pub(super) fn db_get(&mut self, asked: DbGet) -> anyhow::Result<Value> {
        self.ask("db.get", asked, rows::db_get)
    }

    pub(super) fn db_dump(&mut self, asked: DbDump) -> anyhow::Result<Value> {
        self.ask("db.dump", asked, rows::db_dump)
    }

    pub(super) fn db_verify(&mut self) -> anyhow::Result<Value> {
        self.ask("db.verify", Nothing {}, |reading, _| Ok(rows::findings(&verify(reading)?)))
    }

    pub(super) fn db_backup(&mut self, to: PathBuf) -> anyhow::Result<Value> {
        self.change("db.backup", DbBackup { to }, |store, asked| Ok(serde_json::to_value(store.backup(&asked.to)?)))
    }

    pub(super) fn db_compact(&mut self) -> anyhow::Result<Value> {
        self.change("db.compact", Nothing {}, |store, _| Ok(serde_json::to_value(store.compact()?)))
    }

    /// Asks for something that is not asked again by itself.
    fn change<P: Serialize>(
        &mut self,
        method: &str,
        asked: P,
        file: fn(&mut OpenStore, P) -> Result<serde_json::Result<Value>, StoreError>,
    ) -> anyhow::Result<Value> {
        match &mut self.whom {
            Whom::Runtime(client) => client.call(method, &asked).map_err(refused_there),
            Whom::File(store) => Ok(file(store, asked).map_err(|error| refused(error.into()))??),
            Whom::Nothing(why) => Err(Refusal::new(1, why.clone()).into()),
        }
    }

    fn ask<P: Serialize>(
        &mut self,
        method: &str,
        asked: P,
        file: fn(&Reading, P) -> Result<Value, ToolError>,
    ) -> anyhow::Result<Value> {
        if let Whom::Runtime(client) = &mut self.whom {
            match client.call(method, &asked) {
                // It ended meanwhile: its successor has the same to say, or the file.
                Err(ClientError::Gone) => self.whom = Whom::open(&self.data)?,
                answer => return answer.map_err(refused_there),
            }
        }
        match &mut self.whom {
            Whom::Runtime(client) => client.call(method, &asked).map_err(refused_there),
            Whom::File(store) => {
                let reading = store.read().map_err(|error| refused(error.into()))?;
                file(&reading, asked).map_err(refused)
            }
            Whom::Nothing(why) => Err(Refusal::new(1, why.clone()).into()),
        }
    }
}

/// Repairs the store, which nobody may own.
pub(super) fn db_repair(operator: &Operator<'_>) -> anyhow::Result<Value> {
    match OpenStore::repair(operator.data, operator.now) {
        Ok(done) => Ok(serde_json::to_value(done)?),
        Err(StoreError::Busy { pid }) => {
            let message = format!("process {pid} owns {}: stop it, then repair", operator.data.display());
            Err(Refusal::new(OWNED, message).into())
        }
        Err(StoreError::Invalid(why)) => Err(Refusal::new(1, why).into()),
        Err(error) => Err(refused(not_had(operator.data, error.into()))),
    }
}

/// The named thing is unknown, or the question makes no sense.
const UNKNOWN: [ErrorCode; 5] = [
    ErrorCode::ThreadNotFound,
    ErrorCode::CheckpointNotFound,
    ErrorCode::ArtifactNotFound,
    ErrorCode::BeadNotFound,
    ErrorCode::InvalidArguments,
];

pub(super) fn refused(error: ToolError) -> anyhow::Error {
    let exit = if UNKNOWN.contains(&error.code) { USAGE } else { 1 };
    Refusal::new(exit, error.to_string()).into()
}

pub(super) fn refused_there(error: ClientError) -> anyhow::Error {
    match &error {
        ClientError::Refused(said) if UNKNOWN.iter().any(|code| said.is(*code)) => {
            Refusal::new(USAGE, error.to_string()).into()
        }
        ClientError::NoRuntime
        | ClientError::Gone
        | ClientError::Refused(_)
        | ClientError::Protocol(_)
        | ClientError::Io(_) => error.into(),
    }
}
