//! Header fields and options of pcap and pcapng: computed, or refused by name.

use super::*;

/// A packet as these tests see it.
#[derive(Debug, PartialEq)]
struct Seen {
    number: u64,
    nanos: i64,
    link_type: i32,
    wire_length: u32,
    bytes: Vec<u8>,
}

fn open(bytes: Vec<u8>) -> Result<CaptureFile, FileError> {
    CaptureFile::read(Path::new("test"), Box::new(io::Cursor::new(bytes)))
}

/// The packets of a whole file, and those that were skipped.
fn seen(bytes: Vec<u8>) -> (Vec<Seen>, Vec<(Skipped, u64)>) {
    let mut file = open(bytes).unwrap();
    let mut seen = Vec::new();
    let end = file
        .for_each(|frame| {
            seen.push(Seen {
                number: frame.number,
                nanos: frame.at.0,
                link_type: frame.link_type,
                wire_length: frame.wire_length,
                bytes: frame.bytes.to_vec(),
            });
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(end, End::Whole);
    let skipped = file.skipped_by_reason().iter();
    (seen, skipped.map(|(why, count)| (*why, *count)).collect())
}

/// Writes in either byte order.
struct Writer {
    is_big_endian: bool,
    bytes: Vec<u8>,
}

impl Writer {
    fn u16(&mut self, value: u16) {
        self.bytes.extend(match self.is_big_endian {
            true => value.to_be_bytes(),
            false => value.to_le_bytes(),
        });
    }

    fn u32(&mut self, value: u32) {
        self.bytes.extend(match self.is_big_endian {
            true => value.to_be_bytes(),
            false => value.to_le_bytes(),
        });
    }

    fn u64(&mut self, value: u64) {
        self.bytes.extend(match self.is_big_endian {
            true => value.to_be_bytes(),
            false => value.to_le_bytes(),
        });
    }
}

/// A pcap file with one packet of 20 bytes, of which `original` were on the wire.
fn pcap_of(is_big_endian: bool, magic: u32, version: (u16, u16), network: u32, original: u32) -> Vec<u8> {
    let mut file = Writer {
        is_big_endian,
        bytes: Vec::new(),
    };
    file.u32(magic);
    file.u16(version.0);
    file.u16(version.1);
    for word in [0, 0, 65_535, network, 1_700_000_000, 250_000] {
        file.u32(word);
    }
    let (first, second) = if version.1 < 3 {
        (original, 20)
    } else {
        (20, original)
    };
    file.u32(first);
    file.u32(second);
    if magic == 0xA1B2_CD34 {
        file.bytes.extend([9; 8]);
    }
    file.bytes.extend(0..20);
    file.bytes
}

fn usual_pcap(network: u32, original: u32) -> Vec<u8> {
    pcap_of(false, 0xA1B2_C3D4, (2, 4), network, original)
}

/// A pcapng file, block by block.
struct Blocks(Writer);

type Opt<'a> = (u16, &'a [u8]);

impl Blocks {
    fn new(is_big_endian: bool) -> Blocks {
        let mut blocks = Blocks(Writer {
            is_big_endian,
            bytes: Vec::new(),
        });
        blocks.section(is_big_endian);
        blocks
    }

    fn section(&mut self, is_big_endian: bool) {
        self.0.is_big_endian = is_big_endian;
        self.block(0x0A0D_0D0A, |body| {
            body.u32(0x1A2B_3C4D);
            body.u16(1);
            body.u16(0);
            body.u64(u64::MAX);
        });
    }

    fn block(&mut self, kind: u32, write: impl FnOnce(&mut Writer)) {
        let mut body = Writer {
            is_big_endian: self.0.is_big_endian,
            bytes: Vec::new(),
        };
        write(&mut body);
        let length = body.bytes.len() as u32 + 12;
        self.0.u32(kind);
        self.0.u32(length);
        self.0.bytes.extend(body.bytes);
        self.0.u32(length);
    }

    fn interface(&mut self, link_type: u16, options: &[Opt<'_>]) {
        self.block(1, |body| {
            body.u16(link_type);
            body.u16(0);
            body.u32(0);
            write_options(body, options);
        });
    }

    fn packet(&mut self, interface: u32, ticks: u64, bytes: &[u8], options: &[Opt<'_>]) {
        let length = bytes.len() as u32;
        self.block(6, |body| {
            let words = [interface, (ticks >> 32) as u32, ticks as u32, length, length];
            words.into_iter().for_each(|word| body.u32(word));
            body.bytes.extend_from_slice(bytes);
            body.bytes.resize(body.bytes.len().next_multiple_of(4), 0);
            write_options(body, options);
        });
    }

    fn done(self) -> Vec<u8> {
        self.0.bytes
    }
}

fn write_options(body: &mut Writer, options: &[Opt<'_>]) {
    for (code, value) in options {
        body.u16(*code);
        body.u16(value.len() as u16);
        body.bytes.extend_from_slice(value);
        body.bytes.resize(body.bytes.len().next_multiple_of(4), 0);
    }
    if !options.is_empty() {
        body.u32(0);
    }
}

/// The time of one packet of an interface with these options.
#[track_caller]
fn check_time(options: &[Opt<'_>], ticks: u64, expected: Result<i64, Skipped>) {
    let mut blocks = Blocks::new(false);
    blocks.interface(1, options);
    blocks.packet(0, ticks, &[0; 20], &[]);
    let (packets, skipped) = seen(blocks.done());
    match expected {
        Ok(nanos) => assert_eq!((packets[0].nanos, skipped), (nanos, vec![])),
        Err(why) => assert_eq!((packets, skipped), (vec![], vec![(why, 1)])),
    }
}

#[test]
fn times_in_every_unit_are_computed_exactly() {
    const SECOND: i64 = 1_000_000_000;
    let at = 1_700_000_000_u64;
    let half = at as i64 * SECOND + SECOND / 2;
    check_time(&[], at * 1_000_000 + 500_000, Ok(half));
    for exponent in [1, 3, 6, 9] {
        let ticks = at * 10_u64.pow(exponent) + 5 * 10_u64.pow(exponent - 1);
        check_time(&[(9, &[exponent as u8])], ticks, Ok(half));
    }
    check_time(&[(9, &[0])], at, Ok(at as i64 * SECOND));
    for exponent in [1, 10, 20, 30, 32, 33] {
        let ticks = at << exponent | 1 << (exponent - 1);
        check_time(&[(9, &[0x80 | exponent as u8])], ticks, Ok(half));
    }
    check_time(&[(9, &[0x80])], at, Ok(at as i64 * SECOND));
    // A part of a nanosecond is dropped: 104,857 of 2^20 are 0.0999994277954…
    check_time(&[(9, &[0x94])], 104_857, Ok(99_999_427));
    // Units too small for the seconds since 1970 go with an offset.
    let since = at.to_le_bytes();
    for (unit, ticks) in [
        (0x80 | 63, 1_u64 << 62),
        (0x80 | 64, 1 << 63),
        (12, 500_000_000_000),
        (19, 5 * 10_u64.pow(18)),
    ] {
        check_time(&[(9, &[unit]), (14, &since)], ticks, Ok(half));
    }
    check_time(&[(9, &[0x80 | 127])], u64::MAX, Ok(0));
}

#[test]
fn an_interface_whose_times_cannot_be_computed_is_skipped_by_name() {
    check_time(&[(9, &[100])], 1, Err(Skipped::Resolution(100)));
    check_time(&[(9, &[])], 1, Err(Skipped::OptionLength("if_tsresol")));
    check_time(&[(9, &[6, 0])], 1, Err(Skipped::OptionLength("if_tsresol")));
    check_time(&[(14, &[0; 4])], 1, Err(Skipped::OptionLength("if_tsoffset")));
    check_time(&[(13, &[0; 2])], 1, Err(Skipped::OptionLength("if_fcslen")));
    check_time(&[(13, &[33])], 1, Err(Skipped::FcsLength(33)));
    check_time(&[(14, &i64::MAX.to_le_bytes())], 1, Err(Skipped::TimeOutOfRange));
    check_time(&[(9, &[0])], u64::MAX, Err(Skipped::TimeOutOfRange));
    // Options that run over the end of their block may have said anything.
    let mut blocks = Blocks::new(false);
    blocks.block(1, |body| {
        body.bytes.extend([1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 200, 0]);
    });
    blocks.packet(0, 1, &[0; 20], &[]);
    assert_eq!(seen(blocks.done()), (vec![], vec![(Skipped::Options, 1)]));
    let text = Skipped::Resolution(100).to_string();
    assert!(text.contains("if_tsresol 100"), "{text}");
}

#[test]
fn offsets_and_packets_are_read_in_the_byte_order_of_their_section() {
    let mut blocks = Blocks::new(true);
    blocks.interface(1, &[(14, &1_000_i64.to_be_bytes())]);
    blocks.packet(0, 7, b"big", &[(5, &9_u64.to_be_bytes())]);
    blocks.section(false);
    blocks.packet(0, 7, b"whose interface was of another section", &[]);
    blocks.interface(101, &[(14, &(-1_000_i64).to_le_bytes())]);
    blocks.packet(0, 7, b"little", &[]);
    let (packets, skipped) = seen(blocks.done());
    let told: Vec<_> = packets
        .iter()
        .map(|one| (one.number, one.nanos, one.link_type))
        .collect();
    assert_eq!(told, [(1, 1_000_000_007_000, 1), (3, -999_999_993_000, 101)]);
    assert_eq!(packets[1].bytes, b"little");
    assert_eq!(skipped, [(Skipped::UnknownInterface, 1)]);
}

#[test]
fn simple_packets_are_counted_and_obsolete_ones_are_read() {
    for is_big_endian in [false, true] {
        let mut blocks = Blocks::new(is_big_endian);
        blocks.interface(1, &[]);
        blocks.interface(101, &[]);
        blocks.block(3, |body| {
            body.u32(8);
            body.bytes.extend([1; 8]);
        });
        blocks.block(2, |body| {
            body.u16(1);
            body.u16(77);
            [0, 5, 6, 9].into_iter().for_each(|word| body.u32(word));
            body.bytes.extend(*b"packet\0\0");
        });
        let (packets, skipped) = seen(blocks.done());
        assert_eq!(skipped, [(Skipped::Simple, 1)]);
        let expected = Seen {
            number: 2,
            nanos: 5_000,
            link_type: 101,
            wire_length: 9,
            bytes: b"packet".to_vec(),
        };
        assert_eq!(packets, [expected]);
    }
}

#[test]
fn a_packet_that_contradicts_its_block_is_skipped_alone() {
    let mut blocks = Blocks::new(false);
    blocks.interface(1, &[]);
    blocks.block(6, |body| {
        [0, 0, 1, 400, 400].into_iter().for_each(|word| body.u32(word))
    });
    blocks.block(6, |body| body.u32(0));
    blocks.packet(0, 5, b"good", &[]);
    let (packets, skipped) = seen(blocks.done());
    assert_eq!((packets.len(), packets[0].number), (1, 3));
    assert_eq!(skipped, [(Skipped::Contradictory, 2)]);
}

#[test]
fn the_link_type_is_the_low_half_of_its_field() {
    for upper in [0, 0x0001_0000, 0x0400_0000, 0x0800_0000, 0x03FF_0000, 0xF000_0000] {
        let (packets, _) = seen(usual_pcap(upper | 113, 20));
        assert_eq!(packets[0].link_type, 113, "{upper:#x}");
    }
}

#[test]
fn check_sequences_are_cut_off() {
    let whole: Vec<u8> = (0..20).collect();
    // Four bits of 16-bit words, which count only with the bit that says so.
    for (network, original, kept, wire_length) in [
        (0x2400_0001, 20, 16, 16),
        (0x1400_0001, 20, 18, 18),
        (0x2000_0001, 20, 20, 20),
        (0x0400_0001, 20, 20, 20),
        // Half of the check sequence was not kept, or all of it and more.
        (0x2400_0001, 22, 18, 18),
        (0x2400_0001, 40, 20, 36),
        (0xF400_0001, 20, 0, 0),
    ] {
        let (packets, _) = seen(usual_pcap(network, original));
        assert_eq!(packets[0].bytes, whole[..kept], "{network:#x}");
        assert_eq!(packets[0].wire_length, wire_length, "{network:#x}");
    }
    let flags = |bytes: u32| (bytes << 5 | 0xFFFF_0003).to_le_bytes();
    for (length, of_packet, kept) in [
        (4_u8, None, 16),
        (32, None, 16),
        (16, None, 18),
        (4, Some(2), 18),
        // Nothing is said of it.
        (4, Some(0), 16),
        (0, Some(4), 16),
    ] {
        let mut blocks = Blocks::new(false);
        blocks.interface(1, &[(13, &[length])]);
        let flags = of_packet.map(flags);
        let options: Vec<Opt<'_>> = flags.iter().map(|flags| (2, &flags[..])).collect();
        blocks.packet(0, 1, &whole, &options);
        let (packets, _) = seen(blocks.done());
        assert_eq!(packets[0].bytes, whole[..kept], "{length} {of_packet:?}");
        assert_eq!(packets[0].wire_length as usize, kept);
    }
}

#[test]
fn every_magic_number_is_read_in_both_byte_orders_from_every_door() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("input");
    let mut files = Vec::new();
    for is_big_endian in [false, true] {
        for (magic, nanos) in [
            (0xA1B2_C3D4, 250_000_000),
            (0xA1B2_3C4D, 250_000),
            (0xA1B2_CD34, 250_000_000),
        ] {
            files.push((pcap_of(is_big_endian, magic, (2, 4), 1, 60), nanos));
        }
        let mut blocks = Blocks::new(is_big_endian);
        blocks.interface(1, &[]);
        blocks.packet(0, 1_700_000_000_250_000, &(0..20).collect::<Vec<u8>>(), &[]);
        files.push((blocks.done(), 250_000_000));
    }
    for (plain, nanos) in files {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain).unwrap();
        for bytes in [gzip.finish().unwrap(), zstd(&plain), plain] {
            std::fs::write(&path, &bytes).unwrap();
            assert!(is_capture(&path), "{:x?}", &bytes[..4]);
            let (packets, skipped) = seen(bytes);
            assert_eq!(skipped, []);
            assert_eq!(packets[0].nanos, 1_700_000_000_000_000_000 + nanos);
            assert_eq!(packets[0].bytes, (0..20).collect::<Vec<u8>>());
        }
    }
}

#[test]
fn only_captures_are_captures_and_what_can_be_read_once_is_not_touched() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("input");
    assert!(!is_capture(directory.path()) && !is_capture(&path));
    for bytes in [
        &b""[..],
        b"abc",
        b"hello, this is no capture",
        b"\xa1\xb2\xc3\xd5",
    ] {
        std::fs::write(&path, bytes).unwrap();
        assert!(!is_capture(&path), "{bytes:?}");
    }
    assert!(is_capture(Path::new("-")));
    #[cfg(unix)]
    assert!(is_capture(Path::new("/dev/null")), "a device or a pipe");
}

#[test]
fn old_versions_are_read_and_unknown_ones_refused_by_name() {
    for minor in 0..=4 {
        let (packets, _) = seen(pcap_of(false, 0xA1B2_C3D4, (2, minor), 1, 60));
        assert_eq!(
            (packets[0].bytes.len(), packets[0].wire_length),
            (20, 60),
            "2.{minor}"
        );
    }
    for version in [(1, 4), (2, 5), (3, 0), (543, 0)] {
        let error = open(pcap_of(true, 0xA1B2_C3D4, version, 1, 60))
            .err()
            .unwrap()
            .to_string();
        let named = format!("version {}.{} of the pcap format", version.0, version.1);
        assert!(error.contains(&named), "{error}");
    }
    let mut next = Blocks::new(false).done();
    next[12] = 2;
    let error = open(next.clone()).err().unwrap().to_string();
    assert!(error.contains("version 2.0 of the pcapng format"), "{error}");
    // Behind a section that is understood it ends what can be read.
    let mut file = open([Blocks::new(false).done(), next].concat()).unwrap();
    let end = file.for_each(|_| ControlFlow::Continue(())).unwrap();
    assert!(
        matches!(&end, End::Torn { reason, .. } if reason.contains("version 2.0")),
        "{end:?}"
    );
}

#[test]
fn a_fraction_of_more_than_a_second_is_no_time() {
    let mut file = usual_pcap(1, 20);
    file[28..32].copy_from_slice(&250_000_000_u32.to_le_bytes());
    assert_eq!(seen(file).1, [(Skipped::Fraction, 1)]);
}

#[test]
fn headers_that_end_early_are_named() {
    for bytes in [&usual_pcap(1, 20)[..23], &Blocks::new(true).done()[..20]] {
        let error = open(bytes.to_vec()).err().unwrap().to_string();
        assert!(error.contains("it ends within its header"), "{error}");
    }
}
