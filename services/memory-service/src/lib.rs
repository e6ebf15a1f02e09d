//! Keeps an agent's memories and finds the ones that matter.
