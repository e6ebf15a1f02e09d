//! The rpcs of a storage batcher, over real gRPC, a real journal and an emulated Firestore.

#[cfg(test)]
mod buckets;
#[cfg(test)]
mod budget;
#[cfg(test)]
mod costs;
#[cfg(test)]
mod disk;
#[cfg(test)]
mod durable;
#[cfg(test)]
mod emulator;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod firestore;
#[cfg(test)]
mod flushes;
#[cfg(test)]
mod folds;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod letters;
#[cfg(test)]
mod levels;
#[cfg(test)]
mod once;
#[cfg(test)]
mod outages;
#[cfg(test)]
mod packing;
#[cfg(test)]
mod project;
#[cfg(test)]
mod reads;
#[cfg(test)]
mod streams;
#[cfg(test)]
mod transforms;
#[cfg(test)]
mod writer;
