//! Integration tests of the room `scheduler`.
