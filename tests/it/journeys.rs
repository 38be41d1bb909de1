//! Integration tests of the room `journeys`.
