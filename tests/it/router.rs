//! Integration tests of the room `router`.
