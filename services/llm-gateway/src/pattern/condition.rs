//! A condition in CEL over an observation's values.

use std::{collections::BTreeMap, sync::Arc};

use cel::{Context, Env, Program, Value};

/// Longest condition, in bytes. It is walked by recursion, on stacks of 2 MiB: the deepest of this length must fit in there.
const LONGEST: usize = 1_024;

/// Deepest nesting: brackets in brackets, and operators before or behind a value.
const DEEPEST: usize = 24;

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
    whole: Clause,
    /// What it joins by `&&`, in order; itself where it joins nothing.
    parts: Vec<Clause>,
    reads: Vec<String>,
}

struct Clause {
    text: String,
    program: Program,
}

impl Condition {
    /// Compiles `source` and tries it with every value at 1, so that a wrong type or an unknown function shows here.
    pub(super) fn compile(source: &str, env: &Arc<Env>) -> Result<Self, String> {
        if source.len() > LONGEST {
            return Err(format!("the condition has {} bytes, at most {LONGEST} are read", source.len()));
        }
        if nesting(source) > DEEPEST {
            return Err(format!("the condition is nested more than {DEEPEST} deep"));
        }
        let clause = |text: &str| match env.compile(text) {
            Ok(program) => Ok(Clause { text: text.trim().to_owned(), program }),
            Err(errors) => Err(format!("the condition is no CEL: {errors}")),
        };
        let whole = clause(source)?;
        let parts: Vec<Clause> = conjuncts(source).into_iter().map(clause).collect::<Result<_, _>>()?;
        let mut reads: Vec<String> =
            whole.program.references().variables().into_iter().map(str::to_owned).collect();
        reads.sort();
        let ones = reads.iter().map(|name| (name.clone(), 1.0)).collect();
        let scope = scope(env, &ones);
        // Each part by itself: a part that fails hides what is wrong with those behind it.
        for clause in parts.iter().chain([&whole]) {
            if let Verdict::Skipped(reason) = clause.evaluate(&scope) {
                return Err(format!("the condition {reason}"));
            }
        }
        Ok(Self { whole, parts, reads })
    }

    /// Returns the names of the values it reads, sorted.
    pub(super) fn reads(&self) -> &[String] {
        &self.reads
    }

    pub(super) fn evaluate(&self, values: &BTreeMap<String, f64>, scope: &Context<'_, '_>) -> Verdict {
        if let Some(missing) = self.reads.iter().find(|name| !values.contains_key(*name)) {
            return Verdict::Skipped(format!("lacks the value `{missing}`"));
        }
        self.whole.evaluate(scope)
    }

    /// Returns what each part that is joined by `&&` made of the values, with its text.
    pub(super) fn explain(&self, scope: &Context<'_, '_>) -> Vec<(String, Verdict)> {
        self.parts.iter().map(|part| (part.text.clone(), part.evaluate(scope))).collect()
    }
}

impl Clause {
    fn evaluate(&self, scope: &Context<'_, '_>) -> Verdict {
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

/// Returns what a condition joins by `&&`; all of it where something that binds weaker stands outside of brackets.
fn conjuncts(source: &str) -> Vec<&str> {
    let (mut parts, mut begun, mut open, mut quote) = (Vec::new(), 0, 0_usize, None);
    let mut bytes = source.bytes().enumerate().peekable();
    while let Some((place, byte)) = bytes.next() {
        let next = bytes.peek().map(|(_, byte)| *byte);
        match (quote, byte) {
            (Some(_), b'\\') => drop(bytes.next()),
            (Some(end), byte) => quote = (byte != end).then_some(end),
            (None, b'"' | b'\'') => quote = Some(byte),
            (None, b'(' | b'[' | b'{') => open += 1,
            (None, b')' | b']' | b'}') => open = open.saturating_sub(1),
            (None, b'?') if open == 0 => return vec![source],
            (None, b'|') if open == 0 && next == Some(b'|') => return vec![source],
            (None, b'&') if open == 0 && next == Some(b'&') => {
                parts.push(&source[begun..place]);
                begun = place + 2;
                bytes.next();
            }
            _ => {}
        }
    }
    parts.push(&source[begun..]);
    parts
}

/// Binds every value under its name.
pub(super) fn scope(env: &Arc<Env>, values: &BTreeMap<String, f64>) -> Context<'static, 'static> {
    let mut scope = Context::with_env(Arc::clone(env));
    for (name, value) in values {
        scope.add_variable_from_value(name.as_str(), Value::Float(*value));
    }
    scope
}

/// Returns how deep a condition is nested at most: brackets in brackets, and a level for four operators, each of which is
/// walked by less. What stands in its texts counts as well.
fn nesting(source: &str) -> usize {
    let (mut open, mut deepest) = (0_usize, 0);
    for byte in source.bytes() {
        match byte {
            b'(' | b'[' | b'{' => open += 1,
            b')' | b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(open);
    }
    deepest + source.bytes().filter(|byte| b"!-?.+".contains(byte)).count() / 4
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use cel::Env;

    use super::{Condition, LONGEST};

    #[test]
    fn a_condition_is_explained_part_by_part() {
        let env = Arc::new(Env::stdlib());
        let condition = Condition::compile("a > 1.0 && (b > 1.0 || a > 9.0) && b < 5.0", &env).unwrap();
        let values = [("a".to_owned(), 2.0)].into();
        let parts = condition.explain(&super::scope(&env, &values));
        let texts: Vec<_> = parts.iter().map(|(text, _)| text.as_str()).collect();
        assert_eq!(texts, ["a > 1.0", "(b > 1.0 || a > 9.0)", "b < 5.0"]);
        assert_eq!(parts[0].1, super::Verdict::Holds);
        assert!(
            matches!(parts[1].1, super::Verdict::Skipped(_))
                && matches!(parts[2].1, super::Verdict::Skipped(_))
        );
        assert_eq!(super::conjuncts("a > 1.0 && b > 1.0 || c"), ["a > 1.0 && b > 1.0 || c"]);
        assert_eq!(super::conjuncts("x ? a && b : c"), ["x ? a && b : c"]);
        assert_eq!(super::conjuncts(r#"a == "&&\"&&" && b"#), [r#"a == "&&\"&&" "#, " b"]);
    }

    #[test]
    fn the_deepest_condition_is_read_or_refused_and_never_ends_the_process() {
        let env = Arc::new(Env::stdlib());
        let around = |open: &str, close: &str| {
            let depth = (LONGEST - 9) / (open.len() + close.len());
            open.repeat(depth) + "a > 1.0" + &close.repeat(depth)
        };
        let deep = [
            around("(", ")"),
            around("!", ""),
            around("-", ""),
            around("a>1.0||", ""),
            around("a+", ""),
            around("[", "][0]"),
            around("{1:", "}[1]"),
            around("a?a:", ""),
            around("", ".a"),
            around("f(", ")"),
            around("[a].map(a,", ")[0]"),
        ];
        for source in deep {
            assert!(source.len() <= LONGEST, "{}", source.len());
            // On a stack as small as any it is read on.
            let env = Arc::clone(&env);
            let read = move || Condition::compile(&source, &env).map(drop);
            let read = std::thread::Builder::new().stack_size(2 << 20).spawn(read);
            let _ = read.unwrap().join().unwrap();
        }
        assert!(Condition::compile(&("a > 1.0 || ".repeat(100) + "a > 1.0"), &env).is_err(), "too long");
        assert!(Condition::compile(&("a > 1.0 || ".repeat(90) + "a > 1.0"), &env).is_ok(), "long");
    }
}
