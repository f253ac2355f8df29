//! What Lakitu does, told as stories.

mod answers;
mod checkpoints;
mod command_line;
mod cut_streams;
mod damage;
mod decisions;
mod doctor;
mod documents;
mod gateway_away;
mod jobs;
mod leftovers;
mod limits;
mod main_job;
mod model_failures;
mod modes;
mod names;
mod one_path;
mod outliving;
mod pictures;
mod policy;
mod quiet;
mod restoring;
mod retention;
mod secrets;
mod tls;
mod twenty_threads;
