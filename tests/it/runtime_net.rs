//! Integration tests of the room `runtime_net`.
