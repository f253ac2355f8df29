//! Where rows come from: the runtime that owns the store, or the file itself.

use lakitu_actors::debug::protocol::{DbDump, DbGet, Nothing, ThreadsEvents, ThreadsLs, ThreadsShow};
use lakitu_actors::debug::rows;
use lakitu_actors::store::{OpenStore, Reading, StoreError, verify};
use lakitu_kernel::{ErrorCode, ThreadId, ToolError};
use serde::Serialize;
use serde_json::Value;

use super::client::{Client, ClientError};
use super::{OWNED, Operator, Refusal, USAGE};

/// Answers the same, whoever is asked.
pub(super) enum Source {
    /// A runtime owns the store.
    Runtime(Client),
    /// Nobody does.
    File(OpenStore),
    /// There is no store yet.
    Nothing(String),
}

impl Source {
    /// The runtime if there is one, else the file.
    pub(super) fn open(operator: &Operator<'_>) -> anyhow::Result<Self> {
        match Client::connect(operator.data) {
            Ok(client) => return Ok(Source::Runtime(client)),
            Err(ClientError::NoRuntime) => {}
            Err(error) => return Err(error.into()),
        }
        match OpenStore::read_only(operator.data) {
            Ok(store) => Ok(Source::File(store)),
            Err(StoreError::Invalid(why)) => Ok(Source::Nothing(why)),
            Err(StoreError::Busy { pid }) => {
                let (data, whose) = (operator.data.display(), if pid == 0 { String::new() } else { format!(" {pid}") });
                let message = format!("process{whose} owns {data} and does not answer on its debug socket");
                Err(Refusal::new(OWNED, message).into())
            }
            Err(error) => Err(refused(ToolError::from(error))),
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

    fn ask<P: Serialize>(
        &mut self,
        method: &str,
        asked: P,
        file: fn(&Reading, P) -> Result<Value, ToolError>,
    ) -> anyhow::Result<Value> {
        match self {
            Source::Runtime(client) => client.call(method, &asked).map_err(refused_there),
            Source::File(store) => {
                let reading = store.read().map_err(|error| refused(error.into()))?;
                file(&reading, asked).map_err(refused)
            }
            Source::Nothing(why) => Err(Refusal::new(1, why.clone()).into()),
        }
    }
}

fn refused(error: ToolError) -> anyhow::Error {
    let usage = [ErrorCode::ThreadNotFound, ErrorCode::InvalidArguments].contains(&error.code);
    let exit = if usage { USAGE } else { 1 };
    Refusal::new(exit, error.to_string()).into()
}

fn refused_there(error: ClientError) -> anyhow::Error {
    match &error {
        ClientError::Refused(said) if said.is(ErrorCode::ThreadNotFound) || said.is(ErrorCode::InvalidArguments) => {
            Refusal::new(USAGE, error.to_string()).into()
        }
        ClientError::NoRuntime
        | ClientError::Gone
        | ClientError::Refused(_)
        | ClientError::Protocol(_)
        | ClientError::Io(_) => error.into(),
    }
}
