//! Output that is longer than what the model is given: head and tail, and between them what is missing.
