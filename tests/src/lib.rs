//! What the end-to-end tests share: [`story`] turns a few lines of text into the observations of a site.

pub mod story;
