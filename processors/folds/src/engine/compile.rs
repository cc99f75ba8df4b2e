//! Rules as data become rules that can be held against rows; whatever cannot is named with its rule and field.

use std::collections::BTreeSet;

use watchfold_schemas::alert::RuleRef;
use watchfold_schemas::fields::{Field, Kind, Source};
use watchfold_schemas::rules::{
    Exclusion, FieldTest, GROUP_FIELDS_MAX, RULES_MAX, Rule, RuleSet, RuleState, THRESHOLD_MAX, Test,
    Trigger, WINDOW_MS_MAX,
};
use watchfold_schemas::{Span, Time};

use super::cell::Row;
use super::check::Check;
use super::expression::{DEPTH_MAX, Expression};
use super::message::Message;

/// Why a rule cannot be held against rows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rule {rule}: {}{reason}", field.as_ref().map(|field| format!("{field}: ")).unwrap_or_default())]
pub struct RuleProblem {
    /// The rule's name.
    pub rule: String,
    /// The field that it is about, where it is about one.
    pub field: Option<String>,
    /// One sentence that says what is wrong.
    pub reason: String,
}

/// What is wrong with a set of rules; empty where it can be activated as it is.
pub fn rules_problems(set: &RuleSet) -> Vec<RuleProblem> {
    compile(set).err().unwrap_or_default()
}

/// All rules of a set that judge, in its order. Those that are off are checked and left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Compiled {
    /// Every check once, whichever rules share it.
    pub leaves: Vec<Leaf>,
    /// Every list of fields that windows are kept by, once.
    pub groups: Vec<Vec<Field>>,
    pub rules: Vec<CompiledRule>,
}

/// One check of one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    pub field: Field,
    pub check: Check,
}

#[derive(Clone, Debug, PartialEq)]
pub struct CompiledRule {
    pub rule: Rule,
    pub reference: RuleRef,
    pub condition: Expression,
    /// Rows whose value no longer counts.
    pub withdrawn: Option<Expression>,
    /// Copies of packets are packets too.
    pub counts_duplicates: bool,
    pub when: When,
    pub subject: Vec<Field>,
    pub reputation: Option<Field>,
    pub message: Message,
}

/// When rows that meet the condition make the rule fire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    Each,
    Value { field: Field, at_least: u64 },
    Window(WindowRule),
}

/// A trigger over the rows of one key within a span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowRule {
    pub measure: Measure,
    /// The number of its fields in [`Compiled::groups`].
    pub group: usize,
    pub span: Span,
    pub at_least: u64,
}

/// What of the rows is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    Rows,
    Distinct(Field),
    Sum { field: Field, parts: Option<u32> },
}

/// Compiles a set, or names everything that is wrong with it.
pub fn compile(set: &RuleSet) -> Result<Compiled, Vec<RuleProblem>> {
    let mut compiler = Compiler::default();
    if set.rules.len() > RULES_MAX {
        compiler.complain(
            &set.name,
            None,
            format!("a set has at most {RULES_MAX} rules; split it"),
        );
    }
    let mut names = BTreeSet::new();
    for rule in &set.rules {
        if !names.insert(rule.name.as_str()) {
            compiler.complain(&rule.name, None, "another rule has the same name".to_owned());
        }
        let compiled = compiler.rule(&set.name, rule);
        if rule.state != RuleState::Off {
            compiler.compiled.rules.extend(compiled);
        }
    }
    if compiler.problems.is_empty() {
        Ok(compiler.compiled)
    } else {
        Err(compiler.problems)
    }
}

/// The rules of a set that this version knows, and how many it does not. A set that was checked compiles whole. One that a
/// newer version activated may hold what this one does not know: those rules judge nothing, and are counted.
pub fn compiled_as_far_as_possible(set: &RuleSet) -> (Compiled, u64) {
    let Err(problems) = compile(set) else {
        return (compile(set).unwrap_or_default(), 0);
    };
    let mut known = set.clone();
    known
        .rules
        .retain(|rule| !problems.iter().any(|problem| problem.rule == rule.name));
    let refused = set.rules.len() - known.rules.len();
    (compile(&known).unwrap_or_default(), refused as u64)
}

impl CompiledRule {
    /// How long after its condition last held an attack is over.
    pub fn quiet_after(&self) -> Span {
        Span::from_millis(i64::try_from(self.rule.cooldown_ms).unwrap_or(i64::MAX)).max(self.window())
    }

    /// Zero where it has none.
    pub fn window(&self) -> Span {
        match &self.when {
            When::Window(window) => window.span,
            When::Each | When::Value { .. } => Span::ZERO,
        }
    }
}

impl Compiled {
    /// Whether a row of time `at`, evaluated alone, meets a rule's condition.
    pub fn holds(&self, rule: &CompiledRule, row: &dyn Row, at: Time) -> bool {
        rule.condition.holds(at, &mut |number| {
            let leaf = &self.leaves[number];
            leaf.check.holds(row.cell(leaf.field).as_ref())
        })
    }

    /// Whether a row takes back what a rule counted.
    pub fn is_withdrawn(&self, rule: &CompiledRule, row: &dyn Row, at: Time) -> bool {
        rule.withdrawn.as_ref().is_some_and(|condition| {
            condition.holds(at, &mut |number| {
                let leaf = &self.leaves[number];
                leaf.check.holds(row.cell(leaf.field).as_ref())
            })
        })
    }

    /// Whether any rule looks at this field of such rows.
    pub fn reads(&self, source: Source, field: Field) -> bool {
        self.rules
            .iter()
            .filter(|rule| rule.rule.source == source)
            .any(|rule| {
                let mut leaves = Vec::new();
                rule.condition.leaves(&mut leaves);
                leaves.iter().any(|number| self.leaves[*number].field == field)
            })
    }
}

/// Whether two versions of a rule count the same rows in the same way, whatever else of them changed.
pub fn judges_alike(one: &Rule, other: &Rule) -> bool {
    // A reason excludes no row.
    let excludes = |rule: &Rule| -> Vec<Exclusion> {
        let bare = |exclusion: &Exclusion| Exclusion {
            reason: None,
            ..exclusion.clone()
        };
        rule.exclusions.iter().map(bare).collect()
    };
    one.name == other.name
        && one.source == other.source
        && one.test == other.test
        && excludes(one) == excludes(other)
        && one.counts_duplicates == other.counts_duplicates
        && one.withdrawn_by == other.withdrawn_by
        && one.trigger == other.trigger
}

#[derive(Default)]
struct Compiler {
    compiled: Compiled,
    problems: Vec<RuleProblem>,
}

impl Compiler {
    fn complain(&mut self, rule: &str, field: Option<&str>, reason: String) {
        self.problems.push(RuleProblem {
            rule: rule.to_owned(),
            field: field.map(str::to_owned),
            reason,
        });
    }

    fn rule(&mut self, set: &str, rule: &Rule) -> Option<CompiledRule> {
        let before = self.problems.len();
        let mut condition = vec![self.test(rule, &rule.test, 0)];
        let exclusions: Vec<_> = rule
            .exclusions
            .iter()
            .map(|exclusion| self.exclusion(rule, exclusion))
            .collect();
        if !exclusions.is_empty() {
            condition.push(Expression::Not(Box::new(Expression::Any(exclusions))));
        }
        let withdrawn = self.withdrawn(rule);
        let counts_duplicates = rule.counts_duplicates || self.names(&condition, Field::Duplicate);
        let when = self.when(rule);
        let subject = self.fields(rule, &rule.subject, "its subject");
        let reputation = rule
            .reputation
            .as_deref()
            .and_then(|name| self.reputation(rule, name));
        let message = match Message::compile(&rule.message, rule.source) {
            Ok(message) => message,
            Err(reason) => {
                self.complain(&rule.name, None, reason);
                Message::default()
            }
        };
        (self.problems.len() == before).then(|| CompiledRule {
            rule: rule.clone(),
            reference: RuleRef {
                id: rule.id.clone(),
                name: rule.name.clone(),
                title: rule.title.clone(),
                version: rule.version,
                set: set.to_owned(),
            },
            condition: Expression::All(condition),
            withdrawn,
            counts_duplicates,
            when,
            subject,
            reputation,
            message,
        })
    }

    fn exclusion(&mut self, rule: &Rule, exclusion: &Exclusion) -> Expression {
        let rows = self.test(rule, &exclusion.test, 0);
        match exclusion.until {
            Some(until) => Expression::All(vec![Expression::Before(until), rows]),
            None => rows,
        }
    }

    fn withdrawn(&mut self, rule: &Rule) -> Option<Expression> {
        let test = rule.withdrawn_by.as_ref()?;
        if rule.source != Source::Connection || !matches!(rule.trigger, Trigger::Distinct { .. }) {
            let reason = "only a count of distinct values of connections can be withdrawn".to_owned();
            self.complain(&rule.name, None, reason);
        }
        Some(self.test(rule, test, 0))
    }

    /// Whether a condition looks at this field.
    fn names(&self, condition: &[Expression], field: Field) -> bool {
        let mut leaves = Vec::new();
        condition.iter().for_each(|part| part.leaves(&mut leaves));
        leaves
            .iter()
            .any(|number| self.compiled.leaves[*number].field == field)
    }

    fn test(&mut self, rule: &Rule, test: &Test, depth: usize) -> Expression {
        if depth > DEPTH_MAX {
            self.complain(
                &rule.name,
                None,
                format!("its condition is nested deeper than {DEPTH_MAX}"),
            );
            return Expression::Any(Vec::new());
        }
        let mut parts = |tests: &[Test]| {
            tests
                .iter()
                .map(|test| self.test(rule, test, depth + 1))
                .collect()
        };
        match test {
            Test::All(tests) => Expression::All(parts(tests)),
            Test::Any(tests) => Expression::Any(parts(tests)),
            Test::Not(test) => Expression::Not(Box::new(self.test(rule, test, depth + 1))),
            Test::Field(test) => self.leaf(rule, test),
        }
    }

    fn leaf(&mut self, rule: &Rule, test: &FieldTest) -> Expression {
        let never = Expression::Any(Vec::new());
        let Some(field) = self.field(rule, &test.field) else {
            return never;
        };
        let check = match Check::compile(field, test) {
            Ok(check) => check,
            Err(reason) => {
                self.complain(&rule.name, Some(field.name()), reason);
                return never;
            }
        };
        let leaf = Leaf { field, check };
        let leaves = &mut self.compiled.leaves;
        let number = leaves
            .iter()
            .position(|known| *known == leaf)
            .unwrap_or(leaves.len());
        if number == leaves.len() {
            leaves.push(leaf);
        }
        Expression::Leaf(number)
    }

    /// A field that rows of this rule may have.
    fn field(&mut self, rule: &Rule, name: &str) -> Option<Field> {
        let Some(field) = Field::from_name(name) else {
            self.complain(
                &rule.name,
                Some(name),
                "there is no such field: see the field reference".to_owned(),
            );
            return None;
        };
        if !field.is_of(rule.source) {
            let sources: Vec<_> = field.sources().iter().map(|source| source.name()).collect();
            let (row, known) = (rule.source.name(), sources.join(" and "));
            self.complain(
                &rule.name,
                Some(name),
                format!("a {row} has no such field; it is one of {known}"),
            );
            return None;
        }
        Some(field)
    }

    fn fields(&mut self, rule: &Rule, names: &[String], what: &str) -> Vec<Field> {
        if names.len() > GROUP_FIELDS_MAX {
            let reason = format!(
                "{what} has {} fields, and {GROUP_FIELDS_MAX} are the most",
                names.len()
            );
            self.complain(&rule.name, None, reason);
        }
        names.iter().filter_map(|name| self.field(rule, name)).collect()
    }

    fn reputation(&mut self, rule: &Rule, name: &str) -> Option<Field> {
        let field = self.field(rule, name)?;
        if !matches!(field.kind(), Kind::Address | Kind::Text) {
            let reason = "an oracle is asked about addresses and names alone".to_owned();
            self.complain(&rule.name, Some(name), reason);
            return None;
        }
        Some(field)
    }

    fn when(&mut self, rule: &Rule) -> When {
        match &rule.trigger {
            Trigger::Each => When::Each,
            Trigger::Value { field, at_least } => match self.number(rule, field) {
                Some(field) => When::Value {
                    field,
                    at_least: *at_least,
                },
                None => When::Each,
            },
            Trigger::Count {
                group_by,
                window_ms,
                at_least,
            } => self.window(rule, Measure::Rows, group_by, *window_ms, *at_least),
            Trigger::Distinct {
                field,
                group_by,
                window_ms,
                at_least,
            } => match self.field(rule, field) {
                Some(field) => self.window(rule, Measure::Distinct(field), group_by, *window_ms, *at_least),
                None => When::Each,
            },
            Trigger::Sum {
                field,
                group_by,
                window_ms,
                at_least,
                parts,
            } => match self.number(rule, field) {
                Some(number) => {
                    if parts.is_some_and(|parts| !(1..=PARTS_MAX).contains(&parts)) {
                        let reason = format!("a window has 1 to {PARTS_MAX} parts");
                        self.complain(&rule.name, Some(field), reason);
                    }
                    let measure = Measure::Sum {
                        field: number,
                        parts: *parts,
                    };
                    self.window(rule, measure, group_by, *window_ms, *at_least)
                }
                None => When::Each,
            },
        }
    }

    fn number(&mut self, rule: &Rule, name: &str) -> Option<Field> {
        let field = self.field(rule, name)?;
        if field.kind() != Kind::Number {
            self.complain(
                &rule.name,
                Some(name),
                "it is no number, so it has no size".to_owned(),
            );
            return None;
        }
        Some(field)
    }

    fn window(
        &mut self,
        rule: &Rule,
        measure: Measure,
        group_by: &[String],
        window_ms: u64,
        at_least: u64,
    ) -> When {
        let group = self.fields(rule, group_by, "its group");
        if window_ms == 0 || window_ms > WINDOW_MS_MAX {
            let reason = format!("its window is {window_ms} ms, and 1 ms to {WINDOW_MS_MAX} ms is possible");
            self.complain(&rule.name, None, reason);
        }
        let is_sum = matches!(measure, Measure::Sum { .. });
        if at_least == 0 || (at_least > THRESHOLD_MAX && !is_sum) {
            let reason = format!("its threshold is {at_least}, and 1 to {THRESHOLD_MAX} is possible");
            self.complain(&rule.name, None, reason);
        }
        let groups = &mut self.compiled.groups;
        let number = groups
            .iter()
            .position(|known| *known == group)
            .unwrap_or(groups.len());
        if number == groups.len() {
            groups.push(group);
        }
        When::Window(WindowRule {
            measure,
            group: number,
            span: Span::from_millis(window_ms as i64),
            at_least,
        })
    }
}

/// The most parts of a window: more are no more exact than single rows, and cost more than those.
const PARTS_MAX: u32 = 1_000;

#[cfg(test)]
mod tests;
