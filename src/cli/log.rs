//! The log: to standard error, warnings and worse unless `LAKITU_LOG` or the debug socket says otherwise. It is for who
//! runs Lakitu; what happens in a thread stands in its journal.

use lakitu_actors::debug::LogLevel;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::reload::{Handle, Layer};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Registry, fmt};

use super::Failure;

/// Names the variable with the filter, as in `debug` or `lakitu_actors::store=trace`.
const VARIABLE: &str = "LAKITU_LOG";

/// Changes the running log's filter.
pub(super) struct Log(Handle<Targets, Registry>);

impl LogLevel for Log {
    fn set(&self, level: &str) -> Result<(), String> {
        let filter = level.parse::<Targets>().map_err(|error| error.to_string())?;
        self.0.reload(filter).map_err(|error| error.to_string())
    }
}

/// Starts the log of this process.
pub(super) fn start() -> Result<Log, Failure> {
    let asked = std::env::var(VARIABLE).unwrap_or_else(|_| "warn".to_owned());
    let filter = asked.parse::<Targets>().map_err(|error| Failure::usage(format!("{VARIABLE}={asked}: {error}")))?;
    let (filter, handle) = Layer::new(filter);
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(false).log_internal_errors(false);
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init()
        .map_err(|error| Failure::other(error.to_string()))?;
    Ok(Log(handle))
}
