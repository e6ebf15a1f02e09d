//! Decides which pools are worth asking memory about: one rule in CEL, and a cap.

use std::{cmp::Ordering, fmt, sync::Arc};

use cel::{Context, Env, Program, Value};

use crate::{history::Known, pool::Pool};

/// The numbers a rule may name.
pub const NUMBERS: [&str; 7] =
    ["apr", "historical_apr", "tvl", "pool_age_days", "apr_base", "apr_reward", "volume_24h"];
/// The texts a rule may name.
pub const TEXTS: [&str; 3] = ["chain", "protocol", "symbol"];

/// Longest rule, in bytes. It is walked by recursion.
const LONGEST: usize = 1_024;

/// A compiled interest rule.
pub struct Rule {
    program: Program,
    environment: Arc<Env>,
    /// The names the rule uses: only these are given to it.
    used: Vec<String>,
    text: String,
}

/// Why a rule cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is not CEL.
    #[error("the rule cannot be read: {0}")]
    Syntax(String),
    /// It names something that is not there.
    #[error("the rule names {0}, which is none of its variables: {known}", known = [&NUMBERS[..], &TEXTS[..]].concat().join(", "))]
    Unknown(String),
    /// It does not say yes or no.
    #[error("the rule must say true or false, and fails on a pool that has every value: {0}")]
    NotBoolean(String),
}

/// What the rule and the cap made of a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    /// Positions of the chosen pools, the largest yearly yield in USD first, then by id.
    pub kept: Vec<usize>,
    /// How many more passed the rule and were cut by the cap.
    pub cut: usize,
}

impl Rule {
    /// Compiles a rule and tries it on a pool that has every value.
    ///
    /// # Errors
    ///
    /// Fails if the text is not CEL, names an unknown variable or does not say true or false.
    pub fn compile(text: &str) -> Result<Self, Error> {
        if text.len() > LONGEST {
            return Err(Error::Syntax(format!("it has {} bytes, at most {LONGEST} are read", text.len())));
        }
        let environment = Arc::new(Env::stdlib());
        let program =
            environment.compile(text).map_err(|error| Error::Syntax(one_line(&error.to_string())))?;
        let is_known = |name: &&str| NUMBERS.contains(name) || TEXTS.contains(name);
        if let Some(unknown) = program.references().variables().into_iter().find(|name| !is_known(name)) {
            return Err(Error::Unknown(unknown.to_owned()));
        }
        let used = program.references().variables().into_iter().map(str::to_owned).collect();
        let rule = Self { program, environment, used, text: text.to_owned() };
        let one = Some(1.0);
        let whole =
            Pool { apr: one, tvl: one, apr_base: one, apr_reward: one, volume_24h: one, ..Pool::default() };
        let root = Context::with_env(Arc::clone(&rule.environment));
        rule.holds(&root, &whole, Known { mean_apr: one, age_days: one }).map_err(Error::NotBoolean)?;
        Ok(rule)
    }

    /// Chooses the interesting pools, at most `most`. A rule that needs a value which a pool does not have does not hold for
    /// it, unless another branch of the rule holds (`||`).
    #[must_use]
    pub fn choose(&self, pools: &[Pool], known: &[Known], most: usize) -> Chosen {
        let root = Context::with_env(Arc::clone(&self.environment));
        let holds = |index: &usize| self.holds(&root, &pools[*index], known[*index]).unwrap_or(false);
        let mut kept: Vec<usize> = (0..pools.len().min(known.len())).filter(holds).collect();
        kept.sort_by(|left, right| by_yield(&pools[*left], &pools[*right]));
        let cut = kept.len().saturating_sub(most);
        kept.truncate(most);
        Chosen { kept, cut }
    }

    fn uses(&self, name: &str) -> bool {
        self.used.iter().any(|used| used == name)
    }

    fn holds(&self, root: &Context<'_, '_>, pool: &Pool, known: Known) -> Result<bool, String> {
        let mut scope = root.new_inner_scope();
        let numbers = [
            pool.apr,
            known.mean_apr,
            pool.tvl,
            known.age_days,
            pool.apr_base,
            pool.apr_reward,
            pool.volume_24h,
        ];
        for (name, value) in NUMBERS.into_iter().zip(numbers) {
            if let Some(value) = value.filter(|_| self.uses(name)) {
                scope.add_variable_from_value(name, value);
            }
        }
        for (name, value) in TEXTS.into_iter().zip([&pool.chain, &pool.protocol, &pool.symbol]) {
            if self.uses(name) {
                scope.add_variable_from_value(name, value.as_str());
            }
        }
        match self.program.execute(&scope) {
            Ok(Value::Bool(holds)) => Ok(holds),
            Ok(_) => Err("the result is neither".to_owned()),
            Err(error) => Err(one_line(&error.to_string())),
        }
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("Rule").field(&self.text).finish()
    }
}

/// Orders two pools: the larger yearly yield first, then the smaller id.
#[must_use]
pub fn by_yield(left: &Pool, right: &Pool) -> Ordering {
    right.yearly_yield().total_cmp(&left.yearly_yield()).then_with(|| left.id.cmp(&right.id))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT: &str =
        "apr > 3.0 * historical_apr || pool_age_days < 1.0 || (apr >= 20.0 && tvl >= 100000.0)";

    fn pool(id: &str, apr: f64, tvl: f64) -> Pool {
        Pool { id: id.into(), apr: Some(apr), tvl: Some(tvl), chain: "Base".into(), ..Pool::default() }
    }

    fn chosen(pool: &Pool, known: Known) -> bool {
        !Rule::compile(DEFAULT).unwrap().choose(std::slice::from_ref(pool), &[known], 10).kept.is_empty()
    }

    #[test]
    fn the_default_rule_finds_spikes_new_pools_and_high_yields() {
        let spike = Known { mean_apr: Some(4.0), age_days: None };
        assert!(chosen(&pool("a", 12.1, 10.0), spike));
        assert!(!chosen(&pool("a", 12.0, 10.0), spike));
        assert!(chosen(&pool("a", 1.0, 10.0), Known { mean_apr: None, age_days: Some(0.0) }));
        assert!(
            chosen(&pool("a", 20.0, 100_000.0), Known::default()),
            "unknown history does not hide a yield"
        );
        assert!(!chosen(&pool("a", 20.0, 99_999.0), Known::default()));
        assert!(!chosen(&Pool::default(), Known::default()), "a pool without values is not interesting");
    }

    #[test]
    fn the_cap_keeps_the_largest_yields_and_counts_the_rest() {
        let rule = Rule::compile("apr >= 0.0").unwrap();
        let pools =
            [pool("d", 10.0, 100.0), pool("a", 10.0, 1e6), pool("c", 50.0, 1e6), pool("b", 10.0, 1e6)];
        let chosen = rule.choose(&pools, &[Known::default(); 4], 3);
        assert_eq!(chosen, Chosen { kept: vec![2, 1, 3], cut: 1 });
    }

    #[test]
    fn a_rule_can_look_at_names() {
        let rule = Rule::compile("chain == 'Base' && symbol.startsWith('WETH')").unwrap();
        let pools = [Pool { symbol: "WETH-USDC".into(), ..pool("a", 1.0, 1.0) }, pool("b", 1.0, 1.0)];
        assert_eq!(rule.choose(&pools, &[Known::default(); 2], 9).kept, [0]);
    }

    #[test]
    fn a_rule_that_cannot_work_is_refused_before_the_first_cycle() {
        assert!(matches!(Rule::compile("apr >"), Err(Error::Syntax(_))));
        assert!(matches!(Rule::compile(&("apr > 1.0 || ".repeat(100) + "true")), Err(Error::Syntax(_))));
        assert_eq!(Rule::compile("apy > 3.0").unwrap_err(), Error::Unknown("apy".into()));
        assert!(matches!(Rule::compile("apr + 1.0"), Err(Error::NotBoolean(_))));
        assert!(matches!(Rule::compile("apr > 'x'"), Err(Error::NotBoolean(_))));
    }
}
