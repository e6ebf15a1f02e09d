//! Composes the five services into one mesh and one command.
