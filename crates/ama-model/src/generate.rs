//! Greedy and temperature generation with a key/value cache.
