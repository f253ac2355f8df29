//! `/gateway`
