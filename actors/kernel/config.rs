//! Configuration: raw as written, valid once. Nothing behind this module sees an unchecked value.
