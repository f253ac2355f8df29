//! `/tools/file`
