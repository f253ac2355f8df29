//! `/tools/bash`
