//! Real hosts on port 0, called over real channels.

mod access;
mod bystander;
mod connections;
mod deadlines;
mod drain;
mod health;
mod http1;
mod limits;
mod opening;
mod overload;
mod plain;
mod reflection;
mod retries;
mod tls;
mod traces;
