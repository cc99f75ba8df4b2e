//! Appends a tick into a site's subtree.
