//! The wiring that both programs share.
