//! Stories over the whole mesh, the contracts, and the rules of the house.
