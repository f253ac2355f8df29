//! `/store`
