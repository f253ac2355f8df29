//! The translation, by rows.
