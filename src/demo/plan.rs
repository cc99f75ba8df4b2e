//! What happens on one day at the café, before anybody measures it: who sits where and when, and what breaks.
//!
//! Pure: a plan follows from its seed. Times are seconds after the day's first moment.

use super::random::Random;

/// The PCs of the café.
pub const PCS: usize = 20;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;

/// How many of 1,000 PCs are wanted in each of 14 equal parts of the opening time: a slow morning, lunch, a full
/// evening.
const DEMAND: [i64; 14] = [
    250, 300, 420, 620, 650, 450, 450, 550, 650, 760, 860, 920, 860, 620,
];

/// Nobody takes a PC within this time after another left it, nor restarts one: sessions stay apart.
const PAUSE_MIN_S: i64 = 5 * MINUTE;

/// A drop of the flapping link, short enough to be no incident of its own: at least 4 s and at most 8 s.
const DROP_S: [i64; 3] = [4, 6, 8];

/// The distance of drops, so that four of them fall within ten minutes.
const DROP_EVERY_S: i64 = 88;

/// From one second up to another, which is not part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub from_s: i64,
    pub until_s: i64,
}

impl Window {
    pub const fn new(from_s: i64, length_s: i64) -> Window {
        Window {
            from_s,
            until_s: from_s + length_s,
        }
    }

    pub const fn contains(&self, second: i64) -> bool {
        self.from_s <= second && second < self.until_s
    }

    const fn shifted(self, by_s: i64) -> Window {
        Window {
            from_s: self.from_s + by_s,
            until_s: self.until_s + by_s,
        }
    }
}

/// The outline that every day shares.
#[derive(Clone, Copy, Debug)]
pub struct Outline {
    pub length_s: i64,
    pub open: Window,
    /// People leave over this time before the doors close.
    pub leave_s: i64,
    /// The shortest and the longest visit.
    pub visit_s: (i64, i64),
    /// Troubles come up to this much later than here, in each day anew.
    pub shift_max_s: i64,
    pub hiccup: Window,
    pub silence: Window,
    pub flapping: Window,
    pub dns: Window,
    pub isp: Window,
    pub router: Window,
}

impl Outline {
    /// A whole day. Its morning has some trouble, so that a page opened at two in the afternoon has a history; the
    /// large ones come soon after two, while somebody looks.
    pub const DAY: Outline = Outline {
        length_s: 24 * HOUR,
        open: Window::new(9 * HOUR, 14 * HOUR),
        leave_s: 25 * MINUTE,
        visit_s: (20 * MINUTE, 150 * MINUTE),
        shift_max_s: 3 * MINUTE,
        hiccup: Window::new(9 * HOUR + 24 * MINUTE, 6),
        flapping: Window::new(10 * HOUR + 10 * MINUTE, 12 * MINUTE),
        dns: Window::new(11 * HOUR + 30 * MINUTE, 20 * MINUTE),
        silence: Window::new(12 * HOUR + 40 * MINUTE, 2 * MINUTE),
        isp: Window::new(14 * HOUR + 4 * MINUTE, 35 * MINUTE),
        router: Window::new(15 * HOUR + 10 * MINUTE, 7 * MINUTE),
    };
}

/// One day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub length_s: i64,
    pub open: Window,
    /// For each PC, when somebody uses it, in order.
    pub visits: Vec<Vec<Window>>,
    /// The internet is gone, too short for an incident.
    pub hiccup: Window,
    /// The ping collector says nothing.
    pub silence: Window,
    /// The link to the server is gone.
    pub drops: Vec<Window>,
    /// The first of the two addresses of the internet does not answer.
    pub dns: Window,
    /// Nothing beyond the router answers.
    pub isp: Window,
    /// Nothing at all answers: the router is the switch, too.
    pub router: Window,
}

impl Plan {
    pub fn new(outline: &Outline, seed: u64) -> Plan {
        let mut random = Random::new(seed, "troubles");
        // Even seconds, because that is when rounds begin: a trouble then lasts as long as it is seen to last.
        let mut shift = |window: Window| window.shifted(random.between(0, outline.shift_max_s / 2 + 1) * 2);
        let flapping = shift(outline.flapping);
        let (hiccup, silence, dns) = (shift(outline.hiccup), shift(outline.silence), shift(outline.dns));
        let (isp, router) = (shift(outline.isp), shift(outline.router));
        let visits = (0..PCS).map(|pc| visits(outline, &mut Random::new(seed, &format!("pc {pc}"))));
        Plan {
            length_s: outline.length_s,
            open: outline.open,
            visits: visits.collect(),
            hiccup,
            silence,
            drops: drops(flapping, &mut random),
            dns,
            isp,
            router,
        }
    }

    pub fn present(&self, pc: usize, second: i64) -> bool {
        let visits = &self.visits[pc];
        let next = visits.partition_point(|visit| visit.from_s <= second);
        next > 0 && visits[next - 1].contains(second)
    }

    /// Whether nobody is there and nobody comes soon.
    pub fn is_night(&self, second: i64) -> bool {
        second < self.open.from_s - 10 * MINUTE || second > self.open.until_s + 10 * MINUTE
    }
}

fn drops(flapping: Window, random: &mut Random) -> Vec<Window> {
    let mut drops = Vec::new();
    let mut at = flapping.from_s;
    while at < flapping.until_s {
        let length = DROP_S[random.below(DROP_S.len() as u64) as usize];
        drops.push(Window::new(at, length));
        at += DROP_EVERY_S + 2 * random.between(-5, 6);
    }
    drops
}

/// One after another uses the PC; between them it stands free for as long as the demand of the hour asks.
fn visits(outline: &Outline, random: &mut Random) -> Vec<Window> {
    let (short, long) = outline.visit_s;
    let mut visits = Vec::new();
    let mut at = outline.open.from_s;
    loop {
        at = taken_at(outline, at, random);
        if at >= outline.open.until_s {
            return visits;
        }
        let length = (random.between(short, long) + random.between(short, long)) / 2;
        let latest = outline.open.until_s - random.between(0, outline.leave_s);
        let until_s = (at + length).min(latest);
        if until_s - at >= short / 2 {
            visits.push(Window { from_s: at, until_s });
        }
        at = at.max(until_s) + PAUSE_MIN_S;
    }
}

/// When somebody takes a PC that is free from `at`. Each minute somebody may; with visits of the usual length that
/// keeps as many PCs in use as the hour wants.
fn taken_at(outline: &Outline, mut at: i64, random: &mut Random) -> i64 {
    let usual_s = (outline.visit_s.0 + outline.visit_s.1) / 2;
    while at < outline.open.until_s {
        let wanted = demand(outline, at);
        let chance = MINUTE * 1_000 * wanted / ((1_000 - wanted) * usual_s);
        at += random.between(1, MINUTE);
        if random.between(0, 1_000) < chance {
            break;
        }
        at += MINUTE / 2;
    }
    at
}

fn demand(outline: &Outline, second: i64) -> i64 {
    let Window { from_s, until_s } = outline.open;
    let parts = DEMAND.len() as i64;
    let part = (second - from_s) * parts / (until_s - from_s).max(1);
    DEMAND[part.clamp(0, parts - 1) as usize]
}
