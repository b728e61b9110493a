//! A seeded cluster of the very machines that users run.
