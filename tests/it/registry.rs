//! Integration tests of the room `registry`.
