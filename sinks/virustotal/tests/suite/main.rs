//! From questions in the log to verdicts in it, through a server that answers as VirusTotal does.

mod lookups;
mod trouble;
mod world;
