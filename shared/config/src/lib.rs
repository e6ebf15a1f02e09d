//! Reads typed settings (defaults < profile < file < environment < flags) and reports every fault at once.
