//! Real hosts on port 0, called over real channels.

mod access;
mod balancing;
mod bystander;
mod deadlines;
mod drain;
mod health;
mod http1;
mod limits;
mod partitions;
mod plain;
mod reflection;
mod retries;
mod simulation;
mod storm;
mod traces;
