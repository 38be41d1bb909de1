//! Integration tests of the room `cli`.
