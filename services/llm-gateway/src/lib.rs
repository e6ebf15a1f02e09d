//! Answers prompts and analyses observations, asking a model only where nothing cheaper does.
