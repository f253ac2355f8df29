//! `/threads`
