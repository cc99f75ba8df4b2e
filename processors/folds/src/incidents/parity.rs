//! Stretches of a chain that were evaluated again and gave other events, as incidents.

use watchfold_schemas::event::{CloseReason, IncidentClass};
use watchfold_schemas::observation::{Parity, ParityDifference, ParityVerdict};
use watchfold_schemas::{Chain, Span};

use super::{IncidentsState, Opening, chain_subject};
use crate::fold::Ctx;

impl IncidentsState {
    /// A difference stands until a later hour agrees; that an earlier one does says nothing about it.
    pub(super) fn parity(&mut self, parity: &Parity, ctx: &mut Ctx<'_>) {
        let (class, subject) = (IncidentClass::Parity, chain_subject(parity.chain));
        let differing = self.differing.get(&subject).copied();
        match &parity.verdict {
            ParityVerdict::Agreed if differing.is_some_and(|hour| hour < parity.hour) => {
                self.differing.remove(&subject);
                self.close(class, &subject, CloseReason::Recovered, Span::ZERO, ctx);
            }
            ParityVerdict::Differed(difference) => {
                let latest = differing.map_or(parity.hour, |hour| hour.max(parity.hour));
                self.differing.insert(&subject, latest);
                let detail = describe(parity, difference);
                self.open(class, &subject, ctx.moment, Opening::of(detail), ctx);
            }
            ParityVerdict::Agreed | ParityVerdict::NotCompared { .. } => {}
        }
    }
}

fn describe(parity: &Parity, difference: &ParityDifference) -> String {
    let ParityDifference {
        input,
        index,
        message,
        recorded,
        derived,
    } = difference;
    let message = if message.is_empty() {
        "gone by now"
    } else {
        message
    };
    let side = |text: &Option<String>| text.clone().unwrap_or_else(|| "nothing".to_owned());
    let at = parity.hour;
    let what = match parity.chain {
        Chain::Site => format!("the hour of {at}"),
        Chain::Packets => format!("what followed the packet chain's snapshot of {at}"),
    };
    format!(
        "{what} was folded again and differs first at event {index} of record {input} ({message}): it was \
         recorded as {}; now there is {}",
        side(recorded),
        side(derived)
    )
}
