//! A recording that grows with its log: read while it is written, whole when it was stopped, and up to its last frame when it was not.

use watchfold_log::default_stream_options;
use watchfold_replay::recording::Ending;
use watchfold_replay::{Followed, Following, RecordOptions, Selection, Under};
use watchfold_schemas::{Event, Stream};
use watchfold_tests::story::{instant, observations, parse};

use crate::world::{GrowingLog, everything, replay};

const DAY: &str = "target router\npcs 3\nset min_session 20\nset batch_window 10\nrun 0..300\n\
    down router 100..140\ndown PC-2 0..60 200..300\n";

fn options(directory: &tempfile::TempDir, selection: Selection) -> RecordOptions {
    RecordOptions {
        selection,
        out: directory.path().join("f.wfrec"),
        software: "0.1.0".to_owned(),
        ..RecordOptions::default()
    }
}

fn catch_up(following: &mut Following<'_>) -> Followed {
    loop {
        match following.advance(7).unwrap() {
            Followed::Behind => {}
            followed => {
                following.flush().unwrap();
                return followed;
            }
        }
    }
}

#[test]
fn a_recording_grows_with_its_log_and_is_read_meanwhile() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = GrowingLog::open(
        &directory.path().join("log"),
        default_stream_options(Stream::Observations),
    );
    let observed = observations(&parse(DAY).unwrap());
    let options = options(&directory, everything());
    // It begins with a log in which nothing stands yet.
    let mut following = Following::open(directory.path(), &options).unwrap();
    assert_eq!(catch_up(&mut following), Followed::CaughtUp);
    assert!(!options.out.exists());
    let mut live: Vec<Event> = Vec::new();
    for batch in observed.chunks(60) {
        live.extend(log.append(batch));
        // What it saw once it looked again.
        catch_up(&mut following);
        catch_up(&mut following);
        let so_far = replay(&options.out, everything(), Under::recorded());
        assert_eq!(so_far.events, live);
        assert_eq!(so_far.recorded, live);
        assert_eq!(
            so_far.problems.len(),
            1,
            "it has no end yet: {:?}",
            so_far.problems
        );
    }
    let recorded = following.finish().unwrap();
    assert_eq!(
        (recorded.records, recorded.events),
        (observed.len() as u64, live.len() as u64)
    );
    let whole = replay(&options.out, everything(), Under::recorded());
    assert!(whole.problems.is_empty(), "{:?}", whole.problems);
    assert_eq!((&whole.events, &whole.recorded), (&live, &live));
    assert_eq!(recorded.bytes, std::fs::metadata(&options.out).unwrap().len());
}

#[test]
fn events_that_come_late_are_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = GrowingLog::open(
        &directory.path().join("log"),
        default_stream_options(Stream::Observations),
    );
    let observed = observations(&parse(DAY).unwrap());
    let derived = log.observe(&observed);
    let options = options(&directory, everything());
    let mut following = Following::open(directory.path(), &options).unwrap();
    catch_up(&mut following);
    assert!(!following.has_all_events());
    following.end_observations();
    // More that is observed then is not taken, and what follows from what was taken is.
    log.tell(&derived);
    catch_up(&mut following);
    catch_up(&mut following);
    assert!(following.has_all_events());
    following.finish().unwrap();
    assert_eq!(
        replay(&options.out, everything(), Under::recorded()).recorded,
        derived
    );
}

#[test]
fn the_end_of_the_span_ends_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = GrowingLog::open(
        &directory.path().join("log"),
        default_stream_options(Stream::Observations),
    );
    let observed = observations(&parse(DAY).unwrap());
    let selection = Selection {
        to: Some(instant(150.0)),
        ..Selection::default()
    };
    let options = options(&directory, selection.clone());
    let mut following = Following::open(directory.path(), &options).unwrap();
    let over = observed.chunks(40).any(|batch| {
        log.append(batch);
        catch_up(&mut following);
        catch_up(&mut following) == Followed::Over
    });
    assert!(over, "the span ended and the recording did not");
    following.finish().unwrap();
    let of_file = replay(&options.out, everything(), Under::recorded());
    let of_log = replay(directory.path(), selection, Under::recorded());
    assert_eq!(of_file.events, of_log.events);
    assert_eq!(of_file.recorded, of_log.events);
}

#[test]
fn one_that_was_killed_is_read_up_to_its_last_frame() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = GrowingLog::open(
        &directory.path().join("log"),
        default_stream_options(Stream::Observations),
    );
    let observed = observations(&parse(DAY).unwrap());
    let options = options(&directory, everything());
    let mut following = Following::open(directory.path(), &options).unwrap();
    let (first, second) = observed.split_at(observed.len() / 2);
    let live = log.append(first);
    catch_up(&mut following);
    catch_up(&mut following);
    let whole_frames = std::fs::metadata(&options.out).unwrap().len();
    log.append(second);
    catch_up(&mut following);
    catch_up(&mut following);
    // Nothing is finished; the last frame got to the disk in part.
    std::mem::forget(following);
    let bytes = std::fs::read(&options.out).unwrap();
    assert!(bytes.len() as u64 > whole_frames);
    std::fs::write(&options.out, &bytes[..bytes.len() - 1]).unwrap();
    let read = replay(&options.out, everything(), Under::recorded());
    assert!(
        read.events.len() >= live.len(),
        "{} of {}",
        read.events.len(),
        live.len()
    );
    assert_eq!(read.events[..live.len()], live);
    let [problem] = &read.problems[..] else {
        panic!("{:?}", read.problems)
    };
    assert!(problem.contains("torn at byte"), "{problem}");
    let file = std::fs::File::open(&options.out).unwrap();
    let mut reader = watchfold_replay::recording::Reader::open(file).unwrap();
    while reader.next_frame().unwrap().is_some() {}
    assert!(matches!(reader.ending(), Some(Ending::Torn { .. })));
}
