//! Integration tests of the room `runtime_pods`.
