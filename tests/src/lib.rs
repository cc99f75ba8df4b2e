//! End to end: scenarios, namespaces, crash, browser, boundaries, tidy.
