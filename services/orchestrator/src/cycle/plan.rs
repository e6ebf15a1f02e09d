//! What a cycle asks: which pools are interesting, the questions to memory, the observations for the gateway.

use std::{collections::BTreeMap, time::Duration};

use super::{Machine, paper};
use crate::{
    decide,
    interest::Rule,
    peers::{About, Finding, Observation, Question},
    pool::{Gas, Pool},
    quality::{Kind, Warning},
};

/// How far back a pool's own memories are asked for, in recorded time.
const WEEK: Duration = Duration::from_secs(7 * 86_400);
/// How far back patterns are asked for.
const MONTH: Duration = Duration::from_secs(30 * 86_400);
/// How far past the present moment memories may lie: those of the day itself.
const DAY: Duration = Duration::from_secs(86_400);
/// How well a pattern must be attested to be recalled.
const PATTERN_CONFIDENCE: f64 = 0.7;

/// What of memories of a pool is counted for the analysis.
const CANDIDATES: [&str; 2] = ["high_yield_candidate", "postpone_for_gas"];

/// The caps and thresholds of a cycle.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Most pools observed; the largest by TVL are kept.
    pub pools: usize,
    /// Most interesting pools; the largest yearly yields are kept.
    pub interesting: usize,
    /// How long a live source may stay the same before it counts as stale.
    pub stale_after: Duration,
}

impl Machine {
    /// Keeps the largest pools and says how many were cut.
    pub(super) fn cap(&mut self, pools: &mut Vec<Pool>) {
        let (readings, most) = (pools.len(), self.limits.pools);
        if readings > most {
            let size = |pool: &Pool| pool.tvl.unwrap_or(0.0);
            pools.sort_by(|left, right| {
                size(right).total_cmp(&size(left)).then_with(|| left.id.cmp(&right.id))
            });
            self.seen.left_out = pools.split_off(most);
            let message = format!("agent_max_pools keeps the {most} largest of {readings} pools by TVL");
            self.cycle.input_warnings.push(Warning::new(
                Kind::Cut,
                "pools",
                readings - most,
                readings,
                message,
            ));
        }
        self.cycle.pools = pools.len();
    }

    /// Applies the interest rule and says how many passing pools were cut.
    pub(super) fn choose(&mut self, rule: &Rule) {
        let chosen = rule.choose(&self.seen.pools, &self.seen.known, self.limits.interesting);
        if chosen.cut > 0 {
            let (kept, passed) = (chosen.kept.len(), chosen.kept.len() + chosen.cut);
            let message = format!(
                "agent_max_interesting keeps {kept} of {passed} pools that pass the rule, the largest yearly yields in USD"
            );
            self.cycle.input_warnings.push(Warning::new(
                Kind::Cut,
                "interesting",
                chosen.cut,
                passed,
                message,
            ));
        }
        self.cycle.interesting = chosen.kept.len();
        self.seen.interesting = chosen.kept;
    }

    /// Returns the 1 + 2N questions: one on gas and the market, two on each interesting pool.
    pub(super) fn questions(&self) -> Vec<Question> {
        let Some(moment) = self.seen.moment else { return Vec::new() };
        let until = Some(moment.time + DAY);
        let mut questions = vec![Question {
            name: "recall general".to_owned(),
            about: About::General,
            categories: vec![paper::GAS.to_owned(), paper::MARKET.to_owned()],
            since: Some(moment.time - WEEK),
            until,
            limit: 20,
            ..Question::default()
        }];
        for (place, index) in self.seen.interesting.iter().enumerate() {
            let pool = &self.seen.pools[*index];
            questions.push(Question {
                name: format!("recall pool {}", pool.name()),
                about: About::Pool(place),
                categories: vec![paper::POOL.to_owned()],
                pool: Some(pool.id.clone()),
                since: Some(moment.time - WEEK),
                until,
                limit: 20,
                ..Question::default()
            });
            questions.push(Question {
                name: format!("recall pattern {}", pool.name()),
                about: About::Pattern(place),
                text: paper::describe(pool, self.seen.known[*index]),
                categories: vec![paper::MARKET.to_owned(), paper::ANOMALY.to_owned()],
                since: Some(moment.time - MONTH),
                until,
                min_confidence: PATTERN_CONFIDENCE,
                limit: 5,
                ..Question::default()
            });
        }
        questions
    }

    /// Returns an observation for every pool that has a value, and one for gas.
    pub(super) fn observations(&self) -> Vec<Observation> {
        let Some(moment) = self.seen.moment else { return Vec::new() };
        let mut all = Vec::with_capacity(self.seen.pools.len() + 1);
        for (index, pool) in self.seen.pools.iter().enumerate() {
            let known = self.seen.known[index];
            let values = [
                ("apr", pool.apr),
                ("historical_apr", known.mean_apr),
                ("tvl", pool.tvl),
                ("pool_age_days", known.age_days),
                ("apr_base", pool.apr_base),
                ("apr_reward", pool.apr_reward),
                ("volume_24h", pool.volume_24h),
            ];
            let values: BTreeMap<_, _> =
                values.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
            if values.is_empty() {
                continue;
            }
            let mut labels =
                BTreeMap::from([("chain", pool.chain.clone()), ("protocol", pool.protocol.clone())]);
            labels.extend(self.remembered(index).map(|text| ("remembered", text)));
            let (kind, subject, time) = ("pool", pool.name(), moment.time);
            all.push(Observation { id: pool.id.clone(), kind, subject, time, values, labels });
        }
        if let Some((gas, mean)) = &self.seen.gas {
            let mut values = BTreeMap::from([("gas_price", gas.price)]);
            values.extend(mean.map(|mean| ("avg_gas", mean)));
            let (id, labels) = (paper::gas_id(gas), BTreeMap::from([("chain", gas.chain.clone())]));
            all.push(Observation {
                id,
                kind: "gas",
                subject: gas.chain.clone(),
                time: moment.time,
                values,
                labels,
            });
        }
        all
    }

    /// Returns the subject of an observation in words.
    pub(super) fn subject(&self, id: &str) -> String {
        self.seen.pools.iter().find(|pool| pool.id == id).map_or_else(|| id.to_owned(), Pool::name)
    }

    /// Returns what was found about an observation.
    pub(super) fn finding(&self, id: &str) -> Option<&Finding> {
        self.seen.analysed.as_ref()?.findings.get(id)
    }

    /// Returns the chain of the first pool; gas may be another's.
    pub(super) fn chain(&self) -> &str {
        self.seen.pools.first().map_or("", |pool| pool.chain.as_str())
    }

    /// Returns what memory says of an interesting pool, in bands: the text is part of the gateway's exact key, so it changes only
    /// when the count does.
    fn remembered(&self, index: usize) -> Option<String> {
        let place = self.seen.interesting.iter().position(|it| *it == index)?;
        let own = self.seen.of_pool.get(place)?.as_deref();
        let days = decide::remembered_days(own, &CANDIDATES);
        let patterns = self.seen.patterns.get(place).and_then(Option::as_ref).map_or(0, Vec::len);
        match (days, patterns) {
            (0, 0) => None,
            (days, 0) => Some(format!("candidate on {days} of the last 7 days")),
            (days, _) => Some(format!("candidate on {days} of the last 7 days; like patterns known")),
        }
    }
}

impl super::Seen {
    /// Returns the gas reading, if there is one.
    pub(super) fn gas_reading(&self) -> Option<(&Gas, Option<f64>)> {
        self.gas.as_ref().map(|(gas, mean)| (gas, *mean))
    }
}
