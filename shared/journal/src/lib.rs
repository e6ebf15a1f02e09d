//! Gives many async callers one durable, grouped commit.
