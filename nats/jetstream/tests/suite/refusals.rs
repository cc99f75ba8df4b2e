//! What a broker does to those who use it: dies, comes back, forgets, is slow.
