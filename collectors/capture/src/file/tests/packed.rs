//! Captures in several zstd frames, frames that are skipped, and frames that are damaged or too large.

use super::*;

/// A pcap file with twelve packets, as `zstd -19 --check` packed it: entropy-coded, with a checksum.
const PACKED: &[u8] =
    b"\x28\xb5\x2f\xfd\x04\x68\x0d\x04\x00\xc4\x05\xd4\xc3\xb2\xa1\x02\x00\x04\x00\xff\xff\x00\x00\x01\
    \x00\x00\x00\x00\xf1\x53\x65\x90\xd0\x03\x00\x1e\x00\x00\x00\x1f\x00\x00\x00\x70\x61\x63\x6b\x65\
    \x74\x20\x6e\x75\x6d\x62\x65\x72\x20\x30\x20\x6f\x66\x20\x6f\x6e\x65\x20\x63\x61\x70\x74\x75\x72\
    \x65\x01\x31\x02\x32\x03\x33\x04\x34\x05\x35\x06\x36\x07\x37\x08\x38\x09\x39\x0a\x00\x1f\x00\x00\
    \x00\x20\x31\x65\x0b\x31\x31\x18\xa8\x10\xe8\x4a\xc3\xfe\x1d\xd0\x1b\xd7\x10\x14\x01\x11\x36\x06\
    \x12\x7f\x0f\x48\xa4\x0c\x7d\x94\xcf\x5b\xea\x85\xb2\x8b\x31\xdd\x2c\x03\xf9\x8f\x5b\x51";

fn packets_of(bytes: Vec<u8>) -> Result<(usize, End), FileError> {
    let mut file = CaptureFile::read(Path::new("test.pcap.zst"), Box::new(io::Cursor::new(bytes)))?;
    let mut packets = 0;
    let end = file.for_each(|frame| {
        let text = format!("packet number {} of one capture", frame.number - 1);
        assert_eq!(frame.bytes, text.as_bytes());
        packets += 1;
        ControlFlow::Continue(())
    })?;
    Ok((packets, end))
}

fn skippable(bytes: &[u8]) -> Vec<u8> {
    let mut frame = 0x184D_2A53_u32.to_le_bytes().to_vec();
    frame.extend((bytes.len() as u32).to_le_bytes());
    frame.extend_from_slice(bytes);
    frame
}

#[test]
fn what_the_zstd_command_packs_is_read() {
    assert_eq!(packets_of(PACKED.to_vec()).unwrap(), (12, End::Whole));
}

#[test]
fn frames_in_a_row_are_one_capture_and_skippable_ones_are_skipped() {
    let packets: Vec<String> = (0..9)
        .map(|number| format!("packet number {number} of one capture"))
        .collect();
    let packets: Vec<&[u8]> = packets.iter().map(String::as_bytes).collect();
    let plain = pcap(&packets);
    let (first, second) = plain.split_at(100);
    let whole = [
        skippable(b"sizes of the frames"),
        zstd(first),
        skippable(&[]),
        zstd(second),
        skippable(&[7; 70_000]),
    ];
    assert_eq!(packets_of(whole.concat()).unwrap(), (9, End::Whole));
    // The last skippable frame ends early.
    let mut cut = whole.concat();
    cut.pop();
    let (packets, end) = packets_of(cut).unwrap();
    assert_eq!(packets, 9);
    assert!(
        matches!(&end, End::Torn { reason, .. } if reason == PACKED_ENDS),
        "{end:?}"
    );
}

#[test]
fn a_frame_cut_anywhere_ends_early_and_never_panics() {
    for length in 4..PACKED.len() {
        match packets_of(PACKED[..length].to_vec()) {
            Ok((_, End::Torn { reason, .. })) => assert_eq!(reason, PACKED_ENDS, "{length}"),
            Err(FileError::Read { reason, .. }) => assert_eq!(reason, PACKED_ENDS, "{length}"),
            other => panic!("{length}: {other:?}"),
        }
    }
}

#[test]
fn a_frame_with_a_wrong_checksum_is_damaged() {
    let mut bytes = PACKED.to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    let error = packets_of(bytes).unwrap_err().to_string();
    assert!(
        error.contains("after 12 packets") && error.contains("checksum"),
        "{error}"
    );
}

#[test]
fn what_follows_a_frame_and_is_none_is_damage() {
    let error = packets_of([PACKED, b"garbage"].concat()).unwrap_err().to_string();
    assert!(
        error.contains("after 12 packets") && error.contains("damaged"),
        "{error}"
    );
}

#[test]
fn a_window_beyond_the_limit_is_refused_by_name() {
    // Without a content size, with a window of 2^28 bytes.
    let frame = [0x28, 0xB5, 0x2F, 0xFD, 0x00, 18 << 3, 1, 0, 0];
    let error = packets_of(frame.to_vec()).unwrap_err().to_string();
    assert!(
        error.contains("a zstd window of 256 MiB, and at most 128 MiB are supported"),
        "{error}"
    );
}
