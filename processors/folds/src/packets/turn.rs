//! One record of a capture point under the rules in force: rows, what time alone brings, and what rules make of them, in the
//! order in which it happened.

use watchfold_schemas::Time;
use watchfold_schemas::alert::Measured;
use watchfold_schemas::event::EventBody;
use watchfold_schemas::fields::Field;
use watchfold_schemas::origin::Cause;
use watchfold_schemas::packets::{PacketBatch, PacketView, marks};

use super::attacks::{Because, Hold, Said, Seen, Victim};
use super::clock::ORDER_WITHIN;
use super::columns::{Columns, Segments};
use super::emit::Emitter;
use super::extract::connections::{Ends, OPENS_OR_CLOSES, TcpPacket};
use super::hits::{Attempted, Found, Hit, Place, What};
use super::judge::Judge;
use super::judge_rows::{SingleRow, judge_row};
use super::mask::Mask;
use super::point::Point;
use super::reputation::{Subject, Verdicts};
use super::rows::{AnnouncementRow, AttemptRow, PacketRow, Told};
use super::rulebook::Rulebook;
use super::telling::nearness_permille;
use crate::engine::cell::{Cell, Row};
use crate::engine::compile::{CompiledRule, When};
use crate::engine::measure::subject_of;

/// A record's turn.
pub struct Turn<'a> {
    pub book: &'a Rulebook,
    pub verdicts: &'a Verdicts,
    pub seen: Seen<'a>,
    pub point: &'a mut Point,
    pub out: &'a mut Emitter,
}

/// What brought a row about.
#[derive(Clone, Copy)]
enum Brought<'a> {
    Packet(u64),
    Unanswered(&'a Attempted),
}

impl<'a> Turn<'a> {
    /// Judges the packets of a batch, of which each counts at its time in `times`, and then everything up to `through`.
    pub fn batch(&mut self, view: PacketView<'_>, times: &[Time], through: Time) {
        let mut found = Found::default();
        let segments = Segments::of(view.batch());
        let duplicates = self.point.duplicates.of(view);
        self.point.copies += duplicates.count() as u64;
        let arp_changed = self.neighbours(view, times, &segments, &duplicates, &mut found);
        let columns = Columns::of(view, times, &self.book.site, arp_changed, duplicates, segments);
        let mut judge = Judge::new(self.book, self.verdicts, &columns);
        judge.packets(&mut self.point.windows);
        found.hits = judge.hits;
        self.connections(&columns, through, &mut found);
        self.judge_announcements(&columns, &mut found);
        found.sort();
        for hit in &found.hits {
            self.attacks_until(hit.at);
            self.follow(hit, &columns, &found);
        }
        self.attacks_until(through);
    }

    /// No packets came up to `through`.
    pub fn quiet(&mut self, through: Time) {
        let empty = PacketBatch::default();
        if let Ok(view) = empty.view() {
            self.batch(view, &[], through);
        }
    }

    /// Ends attacks whose conditions have been absent for long enough.
    pub fn attacks_until(&mut self, until: Time) {
        if self.point.attacks.next_due().is_some_and(|due| due <= until) {
            let mut said = Vec::new();
            self.point.attacks.pop_due(until, &mut said);
            self.say(said, None);
        }
    }

    /// Ends every attack: this incarnation is over.
    pub fn end_all(&mut self, at: Time) {
        let mut said = Vec::new();
        self.point.attacks.end_all(at, &mut said);
        self.say(said, None);
    }

    /// Who announces which hardware address, and for each ARP message whether it changes an owner.
    /// A copy announces nothing again; a rule that counts copies sees what an ARP reply changes in each of them.
    fn neighbours(
        &mut self,
        view: PacketView<'_>,
        times: &[Time],
        segments: &Segments,
        duplicates: &Mask,
        found: &mut Found,
    ) -> Vec<Option<bool>> {
        let batch = view.batch();
        let arp = batch
            .arp
            .iter()
            .enumerate()
            .map(|(number, arp)| (arp.row, 1, number));
        let neighbours = batch
            .neighbours
            .iter()
            .enumerate()
            .map(|(number, row)| (row.row, 2, number));
        let dhcp = batch
            .dhcp
            .iter()
            .enumerate()
            .map(|(number, dhcp)| (dhcp.row, 0, number));
        let mut order: Vec<(u16, u8, usize)> = dhcp.chain(arp).chain(neighbours).collect();
        order.sort_unstable();
        let mut changed = vec![None; batch.arp.len()];
        for (row, kind, number) in order {
            let (at, segment) = (times[usize::from(row)], segments.of_row(row));
            let known = &mut self.point.neighbours;
            if kind == 1 {
                changed[number] = known.reply_changed(segment, &batch.arp[number]);
            }
            if duplicates.has(row) {
                continue;
            }
            let fact = match kind {
                0 => {
                    known.dhcp(segment, &batch.dhcp[number]);
                    None
                }
                1 => known.arp(at, segment, &batch.arp[number]),
                _ => known.neighbour(at, segment, &batch.neighbours[number]),
            };
            let packet = view.number(usize::from(row));
            found.announcements.extend(fact.map(|fact| (fact, packet)));
        }
        changed
    }

    fn judge_announcements(&mut self, columns: &Columns<'_>, found: &mut Found) {
        let rules = self.book.of_neighbours();
        if rules.is_empty() {
            return;
        }
        for (number, (fact, packet)) in found.announcements.iter().enumerate() {
            let row = AnnouncementRow {
                fact,
                site: &self.book.site,
            };
            let single = SingleRow {
                row: &row,
                what: What::Announcement(number as u32),
                place: Place::through_row(fact.row, 1),
                at: columns.times[usize::from(fact.row)],
                number: *packet,
            };
            let windows = &mut self.point.windows;
            judge_row(self.book, rules, self.verdicts, windows, single, &mut found.hits);
        }
    }

    /// What becomes of attempts to connect: by packets that open or close, by first data, and by time.
    fn connections(&mut self, columns: &Columns<'_>, through: Time, found: &mut Found) {
        if self.book.of_connections().is_empty() {
            return;
        }
        let mut rows = Mask::of(columns.view.all_tcp_flags(), |flags: u8| {
            flags & OPENS_OR_CLOSES != 0
        });
        let mut with_data = Mask::of(columns.view.all_marks(), |bits: u8| bits & marks::PAYLOAD != 0);
        with_data.without(&rows);
        let opens_or_closes = rows.clone();
        rows.or(&with_data);
        rows.and(&columns.kinds.with_flags);
        rows.without(&columns.duplicates);
        let mut came = Vec::new();
        for row in rows.rows() {
            let number = usize::from(row);
            let ports = (columns.source_ports[number], columns.destination_ports[number]);
            if !opens_or_closes.has(row) && !self.point.connections.may_use(ports.0, ports.1) {
                continue;
            }
            let at = columns.times[number];
            self.unanswered(columns.times, at, found);
            let Some(packet) = tcp_packet(columns, row, at) else {
                continue;
            };
            self.point.connections.see(&packet, &mut came);
            for (number, attempt) in came.drain(..).enumerate() {
                found.attempts.push(Attempted {
                    place: Place::through_row(row, number as u32),
                    row: attempt,
                    is_due: false,
                });
            }
        }
        self.unanswered(columns.times, through, found);
        for (number, attempt) in found.attempts.iter().enumerate() {
            let row = AttemptRow {
                row: &attempt.row,
                site: &self.book.site,
            };
            let single = SingleRow {
                row: &row,
                what: What::Attempt(number as u32),
                place: attempt.place,
                at: attempt.row.at,
                number: attempt.row.number,
            };
            let rules = self.book.of_outcome(attempt.row.outcome);
            let windows = &mut self.point.windows;
            judge_row(self.book, rules, self.verdicts, windows, single, &mut found.hits);
        }
    }

    /// Attempts that nobody answered by `until`, each before the first row of its instant or later.
    fn unanswered(&mut self, times: &[Time], until: Time, found: &mut Found) {
        while let Some(row) = self.point.connections.pop_due(until) {
            let before = times.partition_point(|at| *at < row.at) as u32;
            found.attempts.push(Attempted {
                place: Place::before_row(before, found.attempts.len() as u32),
                row,
                is_due: true,
            });
        }
    }

    /// Tells the attacks of a row for which a rule holds, and asks about its subject where that may help.
    fn follow(&mut self, hit: &Hit, columns: &Columns<'_>, found: &Found) {
        let packets = (hit.first.min(hit.number), hit.number, hit.total);
        match hit.what {
            What::Packet(row) => {
                let row = PacketRow {
                    columns,
                    site: &self.book.site,
                    row,
                };
                self.tell(hit, &Told::packet(&row, packets), Brought::Packet(hit.number));
            }
            What::Attempt(number) => {
                let attempt = &found.attempts[number as usize];
                let row = AttemptRow {
                    row: &attempt.row,
                    site: &self.book.site,
                };
                let brought = match attempt.is_due {
                    true => Brought::Unanswered(attempt),
                    false => Brought::Packet(hit.number),
                };
                self.tell(hit, &Told::attempt(&row, packets), brought);
            }
            What::Announcement(number) => {
                let row = AnnouncementRow {
                    fact: &found.announcements[number as usize].0,
                    site: &self.book.site,
                };
                let brought = Brought::Packet(hit.number);
                self.tell(hit, &Told::announcement(&row, packets), brought);
            }
        }
    }

    /// Most rows belong to an attack that is open and say nothing new, so a cause is made for those that do alone.
    fn tell(&mut self, hit: &Hit, row: &Told<'_>, brought: Brought<'_>) {
        let book = self.book;
        let rule = book.rule(usize::from(hit.rule));
        if hit.holds {
            let victim = match row.cell(Field::DestinationIp) {
                Some(Cell::Address(address)) => Some(Victim::Address(address, row.segment())),
                _ => None,
            };
            let hold = Hold {
                rule,
                key: subject_of(rule, row),
                at: hit.at,
                packet: Some(hit.number),
                measured: measured(rule, hit),
                tier: hit.tier,
                victim,
            };
            let mut said = Vec::new();
            self.point
                .attacks
                .hold(self.seen, &hold, row, self.verdicts, &mut said);
            if !said.is_empty() {
                let cause = self.cause(brought);
                self.say(said, Some(&cause));
            }
        }
        if hit.asks {
            self.ask(hit, rule, row, brought);
        }
    }

    fn ask(&mut self, hit: &Hit, rule: &CompiledRule, row: &dyn Row, brought: Brought<'_>) {
        let Some(cell) = rule.reputation.and_then(|field| row.cell(field)) else {
            return;
        };
        let subject = match &cell {
            Cell::Address(address) if self.book.site.classify(*address).may_ask() => {
                Subject::Address(*address)
            }
            Cell::Text(name) => Subject::Name(name),
            _ => return,
        };
        let nearness = nearness_permille(hit.observed, hit.threshold);
        let wanted = self
            .point
            .questions
            .want(subject, nearness, &rule.rule.name, hit.at, self.verdicts);
        if let Some(wanted) = wanted {
            let (key, cause) = (wanted.subject.clone(), self.cause(brought));
            self.out
                .emit(&key, hit.at, cause, EventBody::LookupWanted(wanted));
        }
    }

    /// Makes events of what attacks say. Without a row there are only ends, and time brought them.
    fn say(&mut self, said: Vec<Said>, row: Option<&Cause>) {
        for said in said {
            let cause = match (said.because, row) {
                (Because::Row, Some(cause)) => cause.clone(),
                _ => Cause::Timer {
                    timer: format!("attacks/end/{}", said.attack),
                    deadline: said.at,
                },
            };
            self.out.emit(&said.attack, said.at, cause, said.body);
        }
    }

    fn cause(&self, brought: Brought<'_>) -> Cause {
        match brought {
            Brought::Packet(number) => self.packet(number),
            Brought::Unanswered(attempt) => self.unanswered_timer(attempt),
        }
    }

    fn packet(&self, number: u64) -> Cause {
        Cause::Packet {
            collector: self.seen.collector.to_owned(),
            incarnation: self.seen.incarnation,
            packet: number,
        }
    }

    fn unanswered_timer(&self, attempt: &Attempted) -> Cause {
        let (collector, incarnation) = (self.seen.collector, self.seen.incarnation);
        Cause::Timer {
            timer: format!(
                "connections/unanswered/{collector}/{incarnation}/{}",
                attempt.row.number
            ),
            deadline: attempt.row.at,
        }
    }
}

fn measured(rule: &CompiledRule, hit: &Hit) -> Measured {
    let (base_threshold, window_ms) = match &rule.when {
        When::Each => (1, 0),
        When::Value { at_least, .. } => (*at_least, 0),
        When::Window(window) => (
            window.at_least,
            u64::try_from(window.span.as_millis()).unwrap_or_default(),
        ),
    };
    Measured {
        observed: hit.observed,
        threshold: hit.threshold,
        base_threshold,
        window_ms,
    }
}

fn tcp_packet(columns: &Columns<'_>, row: u16, at: Time) -> Option<TcpPacket> {
    let number = usize::from(row);
    let own = columns.view.at(number);
    let is_within = own < at && at.since(own) <= ORDER_WITHIN;
    Some(TcpPacket {
        at,
        seen: if is_within { own } else { at },
        number: columns.view.number(number),
        ends: Ends {
            source: columns.known(columns.sources[number])?.address,
            destination: columns.known(columns.destinations[number])?.address,
            source_port: columns.source_ports[number],
            destination_port: columns.destination_ports[number],
            segment: columns.segment(row),
        },
        flags: columns.view.tcp_flags(number),
        has_payload: columns.view.marks(number) & marks::PAYLOAD != 0,
    })
}
