//! Tests of tiers, thresholds, severities, verdicts that expire, and when to ask.

use super::*;

fn verdict(subject: &str, malicious: u32, suspicious: u32, score: i64) -> Verdict {
    let kind = if subject.parse::<IpAddr>().is_ok() {
        SubjectKind::Address
    } else {
        SubjectKind::Name
    };
    Verdict {
        at: Time::from_seconds(0),
        oracle: "virustotal".into(),
        kind,
        subject: subject.into(),
        known: true,
        malicious,
        suspicious,
        harmless: 60,
        undetected: 5,
        score,
        country: None,
        owner: None,
        categories: Vec::new(),
        expires_at: Time::from_seconds(100),
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn tiers_are_those_of_the_table() {
    for (malicious, suspicious, score, want) in [
        (9, 0, 0, Tier::Critical),
        (90, 9, -90, Tier::Critical),
        (8, 9, -90, Tier::High),
        (3, 0, 0, Tier::High),
        (2, 0, 0, Tier::Medium),
        (1, 0, 50, Tier::Medium),
        (0, 5, 0, Tier::Medium),
        (0, 4, 0, Tier::Clean),
        (0, 4, -11, Tier::Low),
        (0, 0, -11, Tier::Low),
        (0, 0, -10, Tier::Clean),
        (0, 0, 0, Tier::Clean),
    ] {
        let verdict = verdict("198.51.100.7", malicious, suspicious, score);
        assert_eq!(tier(&verdict), want, "{malicious} {suspicious} {score}");
        let unknown = Verdict {
            known: false,
            ..verdict
        };
        assert_eq!(tier(&unknown), Tier::Clean);
    }
}

#[test]
fn thresholds_are_those_of_the_table() {
    let worst_first = [Tier::Critical, Tier::High, Tier::Medium, Tier::Low, Tier::Clean];
    for (base, want) in [
        (15, [2, 4, 8, 12, 15]),
        (200, [20, 50, 100, 150, 200]),
        (100, [10, 25, 50, 75, 100]),
        (50, [5, 13, 25, 38, 50]),
        (5_000_000, [500_000, 1_250_000, 2_500_000, 3_750_000, 5_000_000]),
        (30, [3, 8, 15, 23, 30]),
        (1, [1, 1, 1, 1, 1]),
        (0, [1, 1, 1, 1, 1]),
    ] {
        assert_eq!(worst_first.map(|tier| threshold(base, tier)), want, "{base}");
    }
    assert_eq!(threshold(u64::MAX, Tier::Clean), u64::MAX);
    assert_eq!(threshold(u64::MAX, Tier::Low), 13_835_058_055_282_163_712);
}

#[test]
fn severities_rise_by_tier() {
    use Severity::{Critical, High, Info, Low, Medium};
    let bases = [Info, Low, Medium, High, Critical];
    for (tier, want) in [
        (Tier::Clean, bases),
        (Tier::Low, bases),
        (Tier::Medium, [Low, Medium, High, Critical, Critical]),
        (Tier::High, [Low, Medium, High, Critical, Critical]),
        (Tier::Critical, [Critical; 5]),
    ] {
        assert_eq!(bases.map(|base| severity(base, tier)), want, "{tier:?}");
    }
}

#[test]
fn verdicts_count_until_they_expire() {
    let mut verdicts = Verdicts::default();
    assert!(verdicts.is_empty());
    verdicts.learn(&verdict("198.51.100.7", 4, 0, 0));
    verdicts.learn(&verdict("Evil.Example.ORG.", 1, 0, -3));
    let at = |seconds| Time::from_seconds(seconds);
    let bad = address("198.51.100.7");
    assert_eq!(verdicts.tier_of_address(bad, at(100)), Tier::High);
    assert_eq!(
        verdicts.tier_of_address(address("::ffff:198.51.100.7"), at(100)),
        Tier::High
    );
    assert_eq!(verdicts.tier_of_address(bad, at(101)), Tier::Clean);
    assert_eq!(
        verdicts.tier_of_address(address("198.51.100.8"), at(1)),
        Tier::Clean
    );
    assert_eq!(verdicts.tier_of_name("evil.example.org", at(1)), Tier::Medium);
    assert_eq!(verdicts.tier_of_name("example.org", at(1)), Tier::Clean);
    let told = verdicts.reputation("evil.example.org", at(1)).unwrap();
    assert_eq!((told.tier, told.malicious, told.score), (Tier::Medium, 1, -3));
    for (subject, seconds, why) in [
        ("198.51.100.7", 101, "its verdict has expired"),
        ("198.51.100.8", 1, "nobody was asked about it"),
        ("192.168.1.9", 1, "a private address"),
        ("good.example.org", 1, "a name without a verdict"),
    ] {
        assert_eq!(verdicts.reputation(subject, at(seconds)), None, "{why}");
    }
    // A later verdict replaces the earlier one, and its expiry.
    let mut clean = verdict("198.51.100.7", 0, 0, 0);
    clean.expires_at = at(500);
    verdicts.learn(&clean);
    assert_eq!(verdicts.tier_of_address(bad, at(50)), Tier::Clean);
    let mut nonsense = verdict("198.51.100.7", 9, 0, 0);
    nonsense.subject = "not an address".into();
    verdicts.learn(&nonsense);
    assert_eq!(verdicts.malformed, 1);
}

#[test]
fn too_many_verdicts_lose_what_expires_first() {
    let mut verdicts = Verdicts::default();
    for number in 0..=VERDICTS_MAX as u32 {
        let mut verdict = verdict("192.0.2.1", 9, 0, 0);
        verdict.subject = IpAddr::from(number.to_be_bytes()).to_string();
        verdict.expires_at = Time::from_seconds(1_000 + i64::from(number % 1_000));
        verdicts.learn(&verdict);
    }
    assert_eq!(verdicts.evicted, 1);
    assert_eq!(
        verdicts.tier_of_address(address("0.0.0.0"), Time::EPOCH),
        Tier::Clean
    );
    assert_eq!(
        verdicts.tier_of_address(address("0.0.0.1"), Time::EPOCH),
        Tier::Critical
    );
    let again = Verdicts::load(verdicts.store());
    assert_eq!(again.store(), verdicts.store());
}

fn ask(questions: &mut Questions, subject: Subject<'_>, nearness: u32, seconds: i64) -> bool {
    let at = Time::from_seconds(seconds);
    questions
        .want(subject, nearness, "port_scan", at, &Verdicts::default())
        .is_some()
}

#[test]
fn a_subject_is_asked_about_once_an_hour_and_at_every_step() {
    let mut questions = Questions::default();
    let subject = Subject::Address(address("8.8.8.8"));
    for (nearness, seconds, want) in [
        (499, 0, false),
        (500, 0, true),
        (749, 10, false),
        (750, 20, true),
        (500, 30, false),
        (1_000, 40, true),
        (90_000, 50, false),
        (1_000, 3_639, false),
        (500, 3_640, true),
    ] {
        assert_eq!(
            ask(&mut questions, subject, nearness, seconds),
            want,
            "{nearness} at {seconds}"
        );
    }
    let again = Questions::load(questions.store());
    assert_eq!(again.store(), questions.store());
}

#[test]
fn nobody_is_asked_what_is_known() {
    let mut verdicts = Verdicts::default();
    verdicts.learn(&verdict("8.8.8.8", 0, 0, 0));
    let mut questions = Questions::default();
    let subject = Subject::Address(address("8.8.8.8"));
    let mut want = |seconds| {
        let at = Time::from_seconds(seconds);
        questions.want(subject, 1_000, "r", at, &verdicts)
    };
    assert_eq!(want(100), None);
    let wanted = want(101).unwrap();
    assert_eq!(
        (
            wanted.kind,
            wanted.subject.as_str(),
            wanted.nearness_permille,
            wanted.rule.as_str()
        ),
        (SubjectKind::Address, "8.8.8.8", 1_000, "r")
    );
}

#[test]
fn names_of_the_inside_are_never_told() {
    for (name, want) in [
        ("evil.example.org", true),
        ("xn--e1afmkfd.xn--p1ai", true),
        ("_tcp.evil.org", true),
        ("printer", false),
        ("printer.local", false),
        ("1.0.0.10.in-addr.arpa", false),
        ("vault.internal", false),
        ("nas.lan", false),
        ("localhost", false),
        ("a..org", false),
        (".org", false),
        ("", false),
        ("192.0.2.1", false),
        ("with blank.org", false),
        ("upper.ORG", false),
    ] {
        assert_eq!(may_ask_name(name), want, "{name}");
        assert_eq!(
            ask(&mut Questions::default(), Subject::Name(name), 1_000, 0),
            want,
            "{name}"
        );
    }
    assert!(!may_ask_name(&format!("{}.org", "a".repeat(250))));
}

#[test]
fn a_minute_has_room_for_so_many_questions() {
    let mut questions = Questions::default();
    let mut asked = 0;
    for number in 0..1_000_u32 {
        let subject = Subject::Address(IpAddr::from((0x0808_0000 + number).to_be_bytes()));
        asked += u32::from(ask(&mut questions, subject, 1_000, 59));
    }
    assert_eq!(asked, QUESTIONS_PER_MINUTE_MAX);
    assert_eq!(questions.put_off, u64::from(1_000 - QUESTIONS_PER_MINUTE_MAX));
    // What was put off is asked in the next minute; what was asked is not.
    assert!(ask(
        &mut questions,
        Subject::Address(address("8.8.3.0")),
        1_000,
        60
    ));
    assert!(!ask(
        &mut questions,
        Subject::Address(address("8.8.0.0")),
        1_000,
        60
    ));
}

#[test]
fn questions_are_forgotten_oldest_first() {
    let mut questions = Questions::default();
    let subject = |number: u32| Subject::Address(IpAddr::from((0x0800_0000 + number).to_be_bytes()));
    for number in 0..=QUESTIONS_MAX as u32 {
        let asked = Asked {
            at: Time::from_seconds(i64::from(number)),
            step: 4,
        };
        questions.remember(&subject(number), asked);
    }
    let at = Time::from_seconds(QUESTIONS_MAX as i64);
    assert!(!questions.was_asked(&subject(0), 4, Time::from_seconds(1)));
    assert!(questions.was_asked(&subject(QUESTIONS_MAX as u32), 4, at));
}
