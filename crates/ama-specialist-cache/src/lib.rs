//! Content-addressed, crash-safe store of per-pair log-probabilities and losses
