//! Tells the agent's time: the system's, or one that a replay or a test moves by hand.
