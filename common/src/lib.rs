//! The vocabulary of ringkv, pure: keys, placement, versions, the ring, messages.
