//! The pod's virtual network.
