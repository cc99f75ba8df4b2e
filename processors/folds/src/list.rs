//! The macros by which folds are declared: `site_folds!` lists those of the site chain; `timers!` the timers of one of
//! them, and `stored!` the tables that it stores.

/// Declares the folds of the site chain, in the order in which they run, as `module: Fold`. It declares their modules too,
/// so that a new fold is its file and one line in the list.
///
/// `SiteFolds` holds their state, and runs, stores and loads it.
macro_rules! site_folds {
    ($($module:ident: $fold:ident),+ $(,)?) => {
        $(mod $module;)+

        /// The place of each fold in the list.
        #[derive(Clone, Copy, Debug)]
        #[repr(u8)]
        enum FoldId {
            $($fold),+
        }

        /// The state of each fold.
        #[derive(Debug, Default)]
        struct SiteFolds {
            $($module: <$module::$fold as fold::Fold>::State),+
        }

        impl SiteFolds {
            const TIMERS: &'static [timers::FoldTimers] = &[$(fold::timers_of::<$module::$fold>()),+];

            /// The name and version of each fold.
            const VERSIONS: &'static [(&'static str, u32)] = &[
                $((<$module::$fold as fold::Fold>::NAME, <$module::$fold as fold::Fold>::VERSION)),+
            ];

            /// Gives a step to each fold.
            fn run(&mut self, step: &fold::Step<'_>, ctx: &mut fold::Ctx<'_>) {
                $(fold::apply::<$module::$fold>(FoldId::$fold as u8, &mut self.$module, step, ctx);)+
            }

            fn drain_dirty(&mut self, out: &mut Vec<table::Change>) {
                $(fold::FoldState::drain_dirty(&mut self.$module, out);)+
            }

            fn store_all(&self, out: &mut machine::StateEntries) {
                $(fold::FoldState::store_all(&self.$module, out);)+
            }

            /// Takes over an entry that folds of `versions` stored, if it is a fold's.
            fn load(&mut self, versions: &[(String, u32)], key: &[u8], bytes: &[u8]) -> Result<bool, String> {
                $(if fold::owns::<$module::$fold>(key) {
                    let version = machine::version_of(versions, <$module::$fold as fold::Fold>::NAME);
                    return fold::FoldState::load(&mut self.$module, version, key, bytes);
                })+
                Ok(false)
            }

            fn rebuild(
                &mut self,
                config: &watchfold_schemas::SiteConfig,
                board: &mut fold::Board,
            ) -> Result<(), String> {
                $(fold::FoldState::rebuild(&mut self.$module, config, board)?;)+
                Ok(())
            }

            fn counts(&self) -> Vec<(&'static str, u64)> {
                [$(fold::FoldState::counts(&self.$module)),+].concat()
            }
        }
    };
}

/// Declares the kinds of timers of a fold as an enum `Timer`, in the order in which timers of one deadline fire, each with
/// the name that state and causes hold.
macro_rules! timers {
    ($fold:ident: $($(#[$doc:meta])* $kind:ident = $name:literal),+ $(,)?) => {
        #[doc = concat!("What the timers of [`", stringify!($fold), "`] are for.")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Timer {
            $($(#[$doc])* $kind),+
        }

        impl $crate::fold::TimerKind for Timer {
            const FOLD: &'static str = <$fold as $crate::fold::Fold>::NAME;
            const ALL: &'static [Timer] = &[$(Timer::$kind),+];
            const NAMES: &'static [&'static str] = &[$($name),+];

            fn place(self) -> u8 {
                self as u8
            }
        }
    };
}

/// Stores a fold's state: the tables that are listed, whatever version wrote them. Stands in its `impl FoldState`.
macro_rules! stored {
    ($($table:ident),+ $(,)?) => {
        fn drain_dirty(&mut self, out: &mut Vec<$crate::table::Change>) {
            $(self.$table.drain_dirty(out);)+
        }

        fn store_all(&self, out: &mut $crate::machine::StateEntries) {
            $(self.$table.store_all(out);)+
        }

        fn load(&mut self, _version: u32, key: &[u8], bytes: &[u8]) -> Result<bool, String> {
            $(if self.$table.load(key, bytes)? {
                return Ok(true);
            })+
            Ok(false)
        }
    };
}
