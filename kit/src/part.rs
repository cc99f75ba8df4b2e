//! What a part is: a collector, a chain, an oracle, a sink or the page, each with the same shape.
//!
//! A part's value is what its command line says to it. A small program is one part (or a few) in a process of its own:
//! [`main`](crate::main). The all-in-one is a list of them: [`parts!`](crate::parts).

use std::path::Path;

use futures::FutureExt;
use futures::future::BoxFuture;
use watchfold_config::{ConfigError, Naming, Sinks};

use crate::context::Context;
use crate::sections::Loaded;

/// What a part does. When a process ends, the parts of an earlier kind stop first: what was measured is still evaluated, and
/// what was evaluated is still sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Records which configuration and rules are in force at the site.
    Activation,
    Collector,
    Chain,
    Oracle,
    Sink,
    Page,
}

impl Kind {
    /// What the names of its stages begin with.
    pub fn prefix(self) -> Option<&'static str> {
        match self {
            Kind::Activation | Kind::Page => None,
            Kind::Collector => Some("collector"),
            Kind::Chain => Some("chain"),
            Kind::Oracle | Kind::Sink => Some("sink"),
        }
    }
}

/// A part of the pipeline, as a process runs it.
pub trait Part: Send + Sized + 'static {
    /// `discord`, say: the program is `watchfold-discord`, its stage `sink:discord`.
    const NAME: &'static str;
    const KIND: Kind;
    /// Whether the watchdog outside (healthchecks.io) vouches for its progress.
    const IS_VOUCHED: bool = false;
    /// The section of the configuration without which the part's own program has nothing to do.
    const NEEDS: Option<&'static str> = None;

    /// Reads the file for this part alone. Sections of other parts are passed over.
    fn read(path: &Path) -> Result<Loaded, ConfigError> {
        Loaded::of(watchfold_config::load(
            path,
            Naming::Optional,
            |_: Sinks, _, _| (),
        )?)
    }

    /// Checks what the part's own program can check without the log.
    fn check(_file: Option<&Loaded>, _state: &Path) -> anyhow::Result<()> {
        Ok(())
    }

    /// Starts the part and returns. It does not wait for the log, which may be away.
    fn start(self, context: Context) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// A [`Part`] whose type is not known, for lists.
pub trait AnyPart: Send {
    fn name(&self) -> &'static str;
    fn kind(&self) -> Kind;
    fn is_vouched(&self) -> bool;
    fn start(self: Box<Self>, context: Context) -> BoxFuture<'static, anyhow::Result<()>>;
}

impl<P: Part> AnyPart for P {
    fn name(&self) -> &'static str {
        P::NAME
    }

    fn kind(&self) -> Kind {
        P::KIND
    }

    fn is_vouched(&self) -> bool {
        P::IS_VOUCHED
    }

    fn start(self: Box<Self>, context: Context) -> BoxFuture<'static, anyhow::Result<()>> {
        Part::start(*self, context).boxed()
    }
}

/// The parts of one process, in the order of the list.
pub type Parts = Vec<Box<dyn AnyPart>>;

/// A list of parts.
#[macro_export]
macro_rules! parts {
    ($($part:expr),* $(,)?) => {
        vec![$(Box::new($part) as Box<dyn $crate::part::AnyPart>),*]
    };
}
