//! What shim, engine and command say to each other.
