//! The mean number of PCs present by local weekday and hour over the last four weeks.

use std::collections::BTreeMap;

use watchfold_schemas::Time;

use super::history::{hour_of, start_of_hour};
use super::sessions::HEATMAP_HOURS;
use super::shapes::Heatmap;

const DAYS: usize = 7;
const HOURS: usize = 24;
const HOUR_MS: i64 = 3_600_000;
/// An hour measured for less than this says nothing.
const MEASURED_MS_MIN: i64 = 60_000;

/// `presence_ms` is by hour over all PCs; `measured` holds the first and last moment of measuring in each hour. An
/// hour in which PCs were not measured counts for nothing.
pub fn heatmap(
    time_zone: &str,
    now: Time,
    presence_ms: &BTreeMap<i64, u64>,
    measured: &BTreeMap<i64, (i64, i64)>,
    pcs: usize,
) -> Heatmap {
    // A zone that this build does not know is shown as UTC rather than not at all.
    let zone = jiff::tz::TimeZone::get(time_zone).unwrap_or(jiff::tz::TimeZone::UTC);
    let mut sums = [[(0_i64, 0_i64); HOURS]; DAYS];
    let current = hour_of(now);
    for (hour, (first_ms, last_ms)) in measured.range(current - HEATMAP_HOURS + 1..=current) {
        // Measuring that goes on over an end of the hour covers it up to that end, as presence does.
        let from_ms = if measured.contains_key(&(hour - 1)) {
            0
        } else {
            *first_ms
        };
        let to_ms = if measured.contains_key(&(hour + 1)) {
            HOUR_MS
        } else {
            *last_ms
        };
        let span_ms = to_ms - from_ms;
        if span_ms < MEASURED_MS_MIN {
            continue;
        }
        let Some((weekday, local_hour)) = local(start_of_hour(*hour), &zone) else {
            continue;
        };
        let present_ms = presence_ms.get(hour).map_or(0, |present_ms| *present_ms as i64);
        let cell = &mut sums[weekday][local_hour];
        cell.0 += (present_ms * 1_000 / span_ms).min(pcs as i64 * 1_000);
        cell.1 += 1;
    }
    let cells = sums
        .iter()
        .map(|day| {
            day.iter()
                .map(|(sum, count)| sum.checked_div(*count).map(i64::unsigned_abs))
                .collect()
        })
        .collect();
    Heatmap {
        time_zone: time_zone.to_owned(),
        cells,
    }
}

fn local(at: Time, zone: &jiff::tz::TimeZone) -> Option<(usize, usize)> {
    let zoned = jiff::Timestamp::from_nanosecond(i128::from(at.0))
        .ok()?
        .to_zoned(zone.clone());
    let weekday = zoned.weekday().to_monday_zero_offset();
    Some((
        usize::try_from(weekday).ok()?,
        usize::try_from(zoned.hour()).ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_fall_into_the_local_weekday_and_hour() {
        // 2026-08-03 is a Monday; 22:00 UTC is Tuesday 00:00 in Berlin's summer.
        let at: Time = "2026-08-03T22:00:00Z".parse().unwrap();
        let hour = hour_of(at);
        let map = heatmap(
            "Europe/Berlin",
            at + watchfold_schemas::Span::from_seconds(3_000),
            &BTreeMap::from([(hour, 3_600_000)]),
            &BTreeMap::from([(hour, (0, 1_800_000)), (hour - 5 * 24, (0, 10))]),
            20,
        );
        assert_eq!(
            map.cells[1][0],
            Some(2_000),
            "two PCs for the half hour that was measured"
        );
        assert_eq!(map.cells.iter().flatten().flatten().count(), 1);
    }

    #[test]
    fn the_running_hour_holds_no_more_than_were_there() {
        let monday: Time = "2026-08-03T10:00:00Z".parse().unwrap();
        let hour = hour_of(monday);
        // 16 PCs all the time; the first sweep of the hour came after 20 s, the last one after half an hour.
        let measured = BTreeMap::from([(hour - 1, (0, HOUR_MS - 1)), (hour, (20_000, 1_800_000))]);
        let presence = BTreeMap::from([(hour, 16 * 1_800_000)]);
        let now = monday + watchfold_schemas::Span::from_seconds(1_820);
        let map = heatmap("UTC", now, &presence, &measured, 20);
        assert_eq!(map.cells[0][10], Some(16_000));
    }

    #[test]
    fn weeks_are_averaged_and_an_unmeasured_one_does_not_count() {
        let monday: Time = "2026-08-03T10:00:00Z".parse().unwrap();
        let hour = hour_of(monday);
        let whole = (0, HOUR_MS - 1);
        let week = 7 * 24;
        let measured = BTreeMap::from([(hour, whole), (hour - week, whole), (hour - 3 * week, whole)]);
        let presence = BTreeMap::from([(hour, 3_600_000), (hour - week, 7_200_000)]);
        let map = heatmap(
            "UTC",
            monday + watchfold_schemas::Span::from_seconds(3_599),
            &presence,
            &measured,
            20,
        );
        assert_eq!(map.cells[0][10], Some(1_000));
        assert_eq!(map.cells[0][11], None);
    }
}
