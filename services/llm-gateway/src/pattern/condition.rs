//! A condition in CEL over an observation's values.

use std::{collections::BTreeMap, sync::Arc};

use cel::{Context, Env, Program, Value};

/// What a condition made of an observation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It holds.
    Holds,
    /// It does not hold.
    Fails,
    /// It could not be evaluated, and why.
    Skipped(String),
}

/// A compiled condition and the values it reads.
pub(super) struct Condition {
    program: Program,
    reads: Vec<String>,
}

impl Condition {
    /// Compiles `source` and tries it with every value at 1, so that a wrong type or an unknown function shows here.
    pub(super) fn compile(source: &str, env: &Arc<Env>) -> Result<Self, String> {
        let program = env.compile(source).map_err(|errors| format!("the condition is no CEL: {errors}"))?;
        let mut reads: Vec<String> =
            program.references().variables().into_iter().map(str::to_owned).collect();
        reads.sort();
        let ones = reads.iter().map(|name| (name.clone(), 1.0)).collect();
        let condition = Self { program, reads };
        match condition.evaluate(&ones, &scope(env, &ones)) {
            Verdict::Skipped(reason) => Err(format!("the condition {reason}")),
            _ => Ok(condition),
        }
    }

    pub(super) fn evaluate(&self, values: &BTreeMap<String, f64>, scope: &Context<'_, '_>) -> Verdict {
        if let Some(missing) = self.reads.iter().find(|name| !values.contains_key(*name)) {
            return Verdict::Skipped(format!("lacks the value `{missing}`"));
        }
        match self.program.execute(scope) {
            Ok(Value::Bool(true)) => Verdict::Holds,
            Ok(Value::Bool(false)) => Verdict::Fails,
            Ok(_) => Verdict::Skipped("is not true or false".into()),
            Err(error) => Verdict::Skipped(format!("cannot be evaluated: {error}")),
        }
    }
}

impl std::fmt::Debug for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Condition").field("reads", &self.reads).finish_non_exhaustive()
    }
}

/// Binds every value under its name.
pub(super) fn scope(env: &Arc<Env>, values: &BTreeMap<String, f64>) -> Context<'static, 'static> {
    let mut scope = Context::with_env(Arc::clone(env));
    for (name, value) in values {
        scope.add_variable_from_value(name.as_str(), Value::Float(*value));
    }
    scope
}
