//! Streams of events: cut anywhere, gone on with, nothing lost and nothing twice.
