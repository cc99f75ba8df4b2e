//! Subject filters as a reader applies them to each record: split once, when the reader is made, so that the common ones
//! are one comparison. The meaning is that of [`watchfold_schemas::subjects::matches`].

use std::sync::Arc;

use watchfold_schemas::subjects::matches;

#[derive(Clone, Debug)]
pub(crate) enum Filter {
    /// `>`
    Everything,
    /// No wildcard at all.
    Exact(Arc<str>),
    /// One `>` at the end: what stands before it, the dot included.
    Below(Arc<str>),
    /// Any other.
    Pattern(Arc<str>),
}

impl Filter {
    pub(crate) fn new(filter: &str) -> Filter {
        let has_wildcard = |text: &str| text.split('.').any(|token| token == "*" || token == ">");
        match filter.strip_suffix(">") {
            Some("") => Filter::Everything,
            Some(before) if before.ends_with('.') && !has_wildcard(before) => Filter::Below(before.into()),
            _ if has_wildcard(filter) => Filter::Pattern(filter.into()),
            _ => Filter::Exact(filter.into()),
        }
    }

    pub(crate) fn lets_through(&self, subject: &str) -> bool {
        match self {
            Filter::Everything => true,
            Filter::Exact(wanted) => **wanted == *subject,
            Filter::Below(before) => subject.starts_with(&**before),
            Filter::Pattern(filter) => matches(filter, subject),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_meaning_of_filters() {
        let filters = [
            ">",
            "wf.>",
            "wf.obs.>",
            "wf.obs.cafe.>",
            "wf.obs.cafe.tick.clock",
            "wf.obs",
            "wf.*.cafe.>",
            "*.obs.>",
            "wf.obs.*.tick.*",
            "wf.>.tick",
            "wf>",
            "wf.obs>",
            "",
            ".",
            ".>",
            "*",
            "wf.obs.cafe.tick.>",
        ];
        let subjects = [
            "wf",
            "wf.obs",
            "wf.obs.cafe",
            "wf.obs.cafe.tick",
            "wf.obs.cafe.tick.clock",
            "wf.evt.cafe.tick.clock",
            "wf.obs.cafe2.tick.clock",
            "wf.obs.ca",
            "wfx",
            "wf.",
            "wf>",
            "wf.obs>",
            "",
            ".",
            ".a",
            "wf.obs.",
        ];
        for filter in filters {
            for subject in subjects {
                let (got, want) = (
                    Filter::new(filter).lets_through(subject),
                    matches(filter, subject),
                );
                assert_eq!(got, want, "{filter:?} {subject:?} {:?}", Filter::new(filter));
            }
        }
    }
}
