//! Integration tests of the room `modules`.
