//! Integration tests of the room `store`.
