//! Measures ringkv beside its peers in one run.
