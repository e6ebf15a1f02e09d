//! Runs agent cycles: observe, recall, analyse, decide, store, learn.
