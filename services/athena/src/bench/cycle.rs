//! Benchmarks of a cycle, over a whole mesh in this process; what is measured is said by the orchestrator's own benchmarks.
