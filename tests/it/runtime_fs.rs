//! Integration tests of the room `runtime_fs`.
