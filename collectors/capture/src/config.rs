//! A `[[capture]]` table, and whether its filter is one.

use watchfold_config::{CaptureConfig, Problems};

use crate::error::CaptureError;
use crate::tap;

/// The filters that libpcap refuses.
pub fn check_filters(captures: &[CaptureConfig]) -> Problems {
    let mut problems = Problems::default();
    for (index, capture) in captures.iter().enumerate() {
        if let Err(error) = check_filter(capture) {
            problems.push(format!("capture[{index}].filter"), error.to_string());
        }
    }
    problems
}

/// Whether libpcap understands the filter, on a link like Ethernet. Where there is no libpcap nothing is checked.
pub fn check_filter(capture: &CaptureConfig) -> Result<(), CaptureError> {
    match &capture.filter {
        Some(filter) => tap::compile(&capture.interface, filter),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_shows_the_defaults() {
        let text = format!("site = \"cafe-1\"\n{}", include_str!("../example.toml"));
        let path = std::path::Path::new("example.toml");
        let take = |_: watchfold_config::Sinks, _: &watchfold_config::Around<'_>, _: &mut Problems| ();
        let config = watchfold_config::parse(&text, path, watchfold_config::Naming::Required, take).unwrap();
        assert_eq!(config.captures, [CaptureConfig::of("eth0")]);
    }

    #[cfg(unix)]
    #[test]
    fn a_filter_that_is_none_is_named() {
        let with = |filter: &str| CaptureConfig {
            filter: Some(filter.to_owned()),
            ..CaptureConfig::of("eth0")
        };
        let captures = [
            with("tcp port 22 and not host 10.0.0.1"),
            with("tcp prot 22"),
            CaptureConfig::of("lo"),
        ];
        let problems = check_filters(&captures);
        let problems = problems.messages();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(
            problems[0].contains("tcp prot 22") && problems[0].contains("eth0"),
            "{problems:?}"
        );
    }
}
