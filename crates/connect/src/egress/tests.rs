//! The boundary, from both sides: what a server beyond it received, byte for byte, and what the gate counted. Each
//! thing that is refused stands beside its nearest neighbour that passes. Everything is on this machine.

mod boundary;
mod content_cases;
mod standing;
mod surroundings;
