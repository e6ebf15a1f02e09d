//! Takes document writes and samples, folds them and sends them to a store in batches.
