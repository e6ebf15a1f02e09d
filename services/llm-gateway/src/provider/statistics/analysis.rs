//! Statistics over the observations of one request.

use std::collections::BTreeMap;

use super::{LABEL, OUTLIER_Z, Spread, figure, pearson, spearman};
use crate::observation::{Analysis, Assessment, Observation};

/// Fewest observations of a type that are compared with each other.
const FEWEST: usize = 5;
/// Observations at which the confidence of a comparison is one half: a rule of thumb, not a probability.
const HALF_SURE: f64 = 20.0;
/// Confidence where there is nothing to compare with.
const UNSURE: f64 = 0.1;
/// Most lines of each part of an assessment.
const MOST_LINES: usize = 5;
/// Most value names of a type whose pairs are correlated.
const MOST_NAMES: usize = 8;

/// The observations of one request, measured: per type and value name.
#[derive(Debug)]
pub struct Survey<'a> {
    observations: &'a [Observation],
    groups: BTreeMap<&'a str, Group<'a>>,
}

#[derive(Debug, Default)]
struct Group<'a> {
    count: usize,
    spreads: BTreeMap<&'a str, Spread>,
}

/// The value of an observation that stands out most.
struct Standout<'a> {
    name: &'a str,
    value: f64,
    z: f64,
    spread: &'a Spread,
}

struct Link<'a> {
    kind: &'a str,
    names: (&'a str, &'a str),
    rho: f64,
    r: Option<f64>,
    count: usize,
}

impl<'a> Survey<'a> {
    /// Measures `observations`.
    #[must_use]
    pub fn of(observations: &'a [Observation]) -> Self {
        let mut columns: BTreeMap<&str, (usize, BTreeMap<&str, Vec<f64>>)> = BTreeMap::new();
        for observation in observations {
            let (count, values) = columns.entry(&observation.kind).or_default();
            *count += 1;
            for (name, value) in &observation.values {
                values.entry(name).or_default().push(*value);
            }
        }
        let measure = |(kind, (count, values)): (_, (usize, BTreeMap<_, Vec<f64>>))| {
            let spreads = values
                .into_iter()
                .filter_map(|(name, values)| Some((name, Spread::by_factors(values)?)))
                .collect();
            (kind, Group { count, spreads })
        };
        Self { observations, groups: columns.into_iter().map(measure).collect() }
    }

    /// Returns how remarkable `observation` is among those of its type, 0 to 1: one half at 3.5 robust standard deviations of its
    /// most unusual value.
    #[must_use]
    pub fn salience(&self, observation: &Observation) -> f64 {
        self.standout(observation).map_or(0.0, |standout| standout.z.abs() / (standout.z.abs() + OUTLIER_Z))
    }

    /// Describes `observation` among those of its type.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    pub fn analyse(&self, observation: &Observation) -> Analysis {
        let (kind, subject) = (&observation.kind, name_of(observation));
        let Some(standout) = self.standout(observation) else {
            let count = self.groups.get(kind.as_str()).map_or(0, |group| group.count);
            let shown: Vec<_> = observation
                .values
                .iter()
                .take(4)
                .map(|(name, value)| format!("{name} {}", figure(*value)))
                .collect();
            let summary =
                format!("{subject}: {}; {count} of type {kind} are too few to compare.", shown.join(", "));
            return Analysis { summary, confidence: UNSURE, salience: 0.0 };
        };
        let Standout { name, value, z, spread } = standout;
        let mut summary = format!(
            "{subject}: {name} {} is above {:.0} % of {} of type {kind} (median {}, robust z {z:.1}{})",
            figure(value),
            (100.0 * spread.share_below(value)).floor(),
            spread.count(),
            figure(spread.median()),
            if spread.is_by_factors() { " on a log scale" } else { "" },
        );
        if let Some((name, ratio)) =
            against_history(observation).filter(|(_, ratio)| !(0.5..2.0).contains(ratio))
        {
            summary.push_str(&format!("; {name} is {} times its historical mean", figure(ratio)));
        }
        summary.push('.');
        let count = spread.count() as f64;
        Analysis {
            summary,
            confidence: count / (count + HALF_SURE),
            salience: z.abs() / (z.abs() + OUTLIER_Z),
        }
    }

    /// Assesses all observations together, and says what speaks.
    #[must_use]
    pub fn assess(&self, warnings: &[String]) -> Assessment {
        let mut ranked: Vec<_> =
            self.observations.iter().filter_map(|seen| Some((seen, self.standout(seen)?.z.abs()))).collect();
        ranked.retain(|(_, z)| *z > OUTLIER_Z);
        ranked.sort_by(|one, two| two.1.total_cmp(&one.1));
        let outliers = ranked.len();
        let total = self.observations.len();
        Assessment {
            overall: format!(
                "{LABEL} over {total} observations: {} {outliers} of {total} hold a value beyond {OUTLIER_Z} robust standard \
                 deviations.",
                self.context()
            ),
            correlations: self.correlations(),
            focus_areas: ranked.iter().take(MOST_LINES).map(|(seen, _)| self.analyse(seen).summary).collect(),
            risk_warnings: self.risks(warnings, outliers),
        }
    }

    /// Returns one sentence for each type: how many, and median and quartiles of every value.
    #[must_use]
    pub fn context(&self) -> String {
        let mut sentences = Vec::new();
        for (kind, group) in &self.groups {
            let spreads = group.spreads.iter().take(MOST_NAMES).map(|(name, spread)| {
                format!(
                    "{name} median {} (quartiles {} to {})",
                    figure(spread.median()),
                    figure(spread.quantile(0.25)),
                    figure(spread.quantile(0.75))
                )
            });
            let spreads: Vec<String> = spreads.collect();
            sentences.push(format!("{} of type {kind}: {}.", group.count, spreads.join(", ")));
        }
        sentences.join(" ")
    }

    fn standout<'s>(&'s self, observation: &'s Observation) -> Option<Standout<'s>> {
        let group = self.groups.get(observation.kind.as_str())?;
        let standouts = observation.values.iter().filter_map(|(name, value)| {
            let spread = group.spreads.get(name.as_str()).filter(|spread| spread.count() >= FEWEST)?;
            Some(Standout { name, value: *value, z: spread.z(*value), spread })
        });
        standouts.max_by(|one, two| one.z.abs().total_cmp(&two.z.abs()))
    }

    fn correlations(&self) -> Vec<String> {
        let mut links: Vec<Link<'_>> = Vec::new();
        for (kind, group) in &self.groups {
            let names: Vec<&str> = group.spreads.keys().copied().take(MOST_NAMES).collect();
            for (place, one) in names.iter().enumerate() {
                // A value and its own mean (`apr`, `historical_apr`) move together by construction.
                let others =
                    names.iter().skip(place + 1).filter(|two| !one.contains(**two) && !two.contains(one));
                links.extend(others.filter_map(|two| self.link(kind, one, two)));
            }
        }
        links.sort_by(|one, two| two.rho.abs().total_cmp(&one.rho.abs()));
        links.iter().take(MOST_LINES).map(Link::sentence).collect()
    }

    fn link<'s>(&self, kind: &'s str, one: &'s str, two: &'s str) -> Option<Link<'s>> {
        let of_kind = self.observations.iter().filter(|seen| seen.kind == kind);
        let (xs, ys): (Vec<f64>, Vec<f64>) =
            of_kind.filter_map(|seen| Some((*seen.values.get(one)?, *seen.values.get(two)?))).unzip();
        if xs.len() < FEWEST {
            return None;
        }
        let rho = spearman(&xs, &ys)?;
        Some(Link { kind, names: (one, two), rho, r: pearson(&xs, &ys), count: xs.len() })
    }

    fn risks(&self, warnings: &[String], outliers: usize) -> Vec<String> {
        let mut risks: Vec<String> = warnings.iter().map(|warning| format!("Input: {warning}.")).collect();
        for (kind, group) in self.groups.iter().filter(|(_, group)| group.count < FEWEST) {
            risks.push(format!("Only {} of type {kind}: too few to compare.", group.count));
        }
        let spiking = self
            .observations
            .iter()
            .filter(|seen| against_history(seen).is_some_and(|(_, ratio)| ratio > 3.0));
        let spiking = spiking.count();
        if spiking > 0 {
            risks.push(format!("{spiking} hold a value above 3 times its historical mean: such a spike is often gone a day later."));
        }
        if outliers > 0 {
            risks.push(format!("Outliers ({outliers}) are found by comparison with this request's observations only, not with their own past."));
        }
        risks
    }
}

impl Link<'_> {
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    fn sentence(&self) -> String {
        // 95 % of unrelated series stay within this bound (large-sample variance of rho, 1 / (n - 1)).
        let bound = 1.96 / (self.count as f64 - 1.0).sqrt();
        let verdict = if self.rho.abs() <= bound { "within chance" } else { "beyond chance" };
        let r = self.r.map_or_else(|| "undefined".into(), |r| format!("{r:.2}"));
        format!(
            "{} and {} over type {}: Spearman rho {:.2}, Pearson r {r}, n = {} ({verdict}: 95 % of unrelated series stay within \
             ±{bound:.2}).",
            self.names.0, self.names.1, self.kind, self.rho, self.count
        )
    }
}

/// Returns the largest ratio of a value `x` to its `historical_x`, where that is above zero.
fn against_history(observation: &Observation) -> Option<(&str, f64)> {
    let ratios = observation.values.iter().filter_map(|(name, past)| {
        let present = name.strip_prefix("historical_")?;
        let value = observation.values.get(present)?;
        (*past > 0.0).then_some((present, value / past))
    });
    ratios.max_by(|one, two| one.1.total_cmp(&two.1))
}

fn name_of(observation: &Observation) -> &str {
    if observation.subject.is_empty() { &observation.id } else { &observation.subject }
}

#[cfg(test)]
mod tests {
    use super::{LABEL, Survey};
    use crate::observation::Observation;

    fn pool(subject: &str, apr: f64, tvl: f64) -> Observation {
        Observation {
            id: format!("id-{subject}"),
            kind: "pool".into(),
            subject: subject.into(),
            values: [("apr".to_owned(), apr), ("tvl".to_owned(), tvl), ("historical_apr".to_owned(), 10.0)]
                .into(),
            ..Observation::default()
        }
    }

    fn pools() -> Vec<Observation> {
        let mut pools: Vec<_> =
            (1..=20_i32).map(|k| pool(&format!("P{k}"), f64::from(k), 1e6 / f64::from(k))).collect();
        pools.push(pool("HOT", 400.0, 10.0));
        pools
    }

    #[test]
    fn the_odd_one_out_is_the_most_salient() {
        let pools = pools();
        let survey = Survey::of(&pools);
        let hot = survey.analyse(&pools[20]);
        assert!(hot.salience > 0.9 && survey.analyse(&pools[9]).salience < 0.2);
        assert!(hot.summary.starts_with("HOT: apr 400 is above 95 % of 21 of type pool"), "{}", hot.summary);
        assert!(hot.summary.contains("40 times"), "{}", hot.summary);
        assert!((hot.confidence - 21.0 / 41.0).abs() < 1e-12);
    }

    #[test]
    fn too_few_are_not_compared() {
        let few = [pool("A", 1.0, 2.0), pool("B", 900.0, 2.0)];
        let found = Survey::of(&few).analyse(&few[1]);
        assert!(
            found.summary.contains("too few")
                && found.salience.abs() < f64::EPSILON
                && found.confidence < 0.2
        );
    }

    #[test]
    fn the_assessment_is_labelled_and_states_n_of_every_correlation() {
        let pools = pools();
        let assessment = Survey::of(&pools).assess(&["`x` is 0".into()]);
        assert!(assessment.overall.starts_with(LABEL));
        assert!(assessment.correlations[0].starts_with("apr and tvl over type pool: Spearman rho -1.00"));
        assert!(assessment.correlations.iter().all(|line| line.contains("n = 21")));
        assert!(!assessment.correlations.iter().any(|line| line.contains("apr and historical_apr")));
        assert!(assessment.focus_areas[0].starts_with("HOT"));
        assert_eq!(assessment.risk_warnings[0], "Input: `x` is 0.");
    }

    #[test]
    fn the_same_input_gives_the_same_words() {
        let pools = pools();
        assert_eq!(Survey::of(&pools).assess(&[]), Survey::of(&pools).assess(&[]));
    }
}
