//! What every strategy would do and cost, and which is taken.

use std::time::Duration;

use super::{Cost, Costs, Kind, Statistics, Strategy, Work, joined};
use crate::explain::Node;

/// What the planner may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    /// Threads a scan may be split over, 1 or more.
    pub(crate) threads: usize,
    /// The strategy that has to be taken; absent: the cheapest.
    pub(crate) strategy: Option<Strategy>,
}

/// A way to answer a query, with what is expected of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    /// The strategy.
    pub(crate) strategy: Strategy,
    /// Its steps.
    pub(crate) root: Node,
    /// What it is expected to take.
    pub(crate) cost: Duration,
    /// Threads of the scan.
    pub(crate) threads: usize,
}

/// A strategy that is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rejected {
    /// The strategy.
    pub(crate) strategy: Strategy,
    /// What it would have taken; absent where it cannot be taken.
    pub(crate) cost: Option<Duration>,
    /// Why it is not.
    pub(crate) why: String,
}

/// What the planner decided.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Choice {
    /// The plan that is taken.
    pub(crate) plan: Plan,
    /// The others, the cheapest first.
    pub(crate) rejected: Vec<Rejected>,
    /// Rows expected to pass the filter, before feedback corrected it.
    pub(crate) uncorrected: f64,
}

/// The strategy that has to be taken cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unfit {
    /// The strategy.
    pub(crate) strategy: Strategy,
    /// Why not.
    pub(crate) why: String,
}

/// Chooses how to answer a query. `correction` is by how much estimates for such filters were wrong.
///
/// # Errors
/// [`Unfit`] if the strategy wished for cannot be taken.
pub(crate) fn choose(
    statistics: &Statistics,
    costs: &Costs,
    correction: f64,
    wish: Wish,
) -> Result<Choice, Unfit> {
    let maker = Maker { statistics, costs, correction, threads: wish.threads.max(1) };
    let (mut plans, mut rejected): (Vec<Plan>, Vec<Rejected>) = (Vec::new(), Vec::new());
    for strategy in Strategy::ALL {
        match maker.make(strategy) {
            Ok(plan) => plans.push(plan),
            Err(why) if wish.strategy == Some(strategy) => return Err(Unfit { strategy, why }),
            Err(why) => rejected.push(Rejected { strategy, cost: None, why }),
        }
    }
    plans.sort_by_key(|plan| plan.cost);
    let taken = wish.strategy.and_then(|wish| plans.iter().position(|plan| plan.strategy == wish));
    let Some(plan) = (!plans.is_empty()).then(|| plans.remove(taken.unwrap_or(0))) else {
        let strategy = wish.strategy.unwrap_or(Strategy::Filtered);
        return Err(Unfit { strategy, why: "no plan can be taken".to_owned() });
    };
    let dearer = plans.into_iter().map(|other| Rejected {
        strategy: other.strategy,
        cost: Some(other.cost),
        why: dearer(&plan, &other, wish.strategy.is_some()),
    });
    let rejected = dearer.chain(rejected).collect();
    Ok(Choice { plan, rejected, uncorrected: statistics.passing(maker.all()) })
}

fn dearer(taken: &Plan, other: &Plan, forced: bool) -> String {
    if forced {
        return "another plan was asked for".to_owned();
    }
    let times = other.cost.as_secs_f64() / taken.cost.as_secs_f64().max(1e-9);
    if times < 1.05 {
        return "costs as much, and comes later in the order of plans".to_owned();
    }
    format!("costs {times:.1} times as much")
}

/// Makes plans of one query.
#[derive(Clone, Copy, Debug)]
struct Maker<'a> {
    statistics: &'a Statistics,
    costs: &'a Costs,
    correction: f64,
    threads: usize,
}

/// How the candidates are found, and what of it is known beforehand.
struct Select {
    detail: String,
    work: Vec<Work>,
    children: Vec<Node>,
    /// Partitions in which the candidates come.
    parts: f64,
    /// Whether the newest partitions come first, so that a recall of the newest need not see all.
    newest_first: bool,
    /// Rows of a partition of which none can come after one of the rest.
    first: Option<f64>,
}

#[expect(clippy::cast_precision_loss, reason = "row numbers have 32 bits")]
impl Maker<'_> {
    fn make(&self, strategy: Strategy) -> Result<Plan, String> {
        let select = match strategy {
            Strategy::Empty => return self.empty(),
            Strategy::Direct => self.direct()?,
            Strategy::Filtered => self.filtered(),
            Strategy::Full => self.full()?,
            Strategy::Time => self.time()?,
            Strategy::Pools => self.pools()?,
            Strategy::Text => self.text()?,
        };
        Ok(self.plan(strategy, select))
    }

    /// Every condition.
    fn all(&self) -> u16 {
        (1 << self.statistics.conditions.len().min(15)) - 1
    }

    /// Rows that pass the conditions in `wanted`, corrected by feedback where they are not counted.
    fn passing(&self, wanted: u16) -> f64 {
        let rows = self.statistics.passing(wanted);
        let corrected = if self.statistics.is_counted(wanted) { rows } else { rows * self.correction };
        corrected.min(self.statistics.live as f64)
    }

    fn empty(&self) -> Result<Plan, String> {
        let none = self.statistics.conditions.iter().find(|condition| condition.rows == 0);
        let why = match none {
            Some(condition) => format!("{} has no memories: {}", condition.kind.as_str(), condition.detail),
            None if self.statistics.live == 0 => "there are no memories".to_owned(),
            None => return Err("the counts leave memories over".to_owned()),
        };
        let root = Node::new(Strategy::Empty.as_str(), why, 0.0, Some(Duration::ZERO));
        Ok(Plan { strategy: Strategy::Empty, root, cost: Duration::ZERO, threads: 1 })
    }

    fn direct(&self) -> Result<Select, String> {
        let Some(first) = self.statistics.conditions.first().filter(|first| first.kind != Kind::Confidence)
        else {
            return Err("no condition names a bitmap to start from".to_owned());
        };
        let (rows, others) = (first.rows as f64, self.statistics.conditions.len() - 1);
        Ok(Select {
            detail: format!(
                "the rows of {} one by one, {others} other conditions asked",
                first.kind.as_str()
            ),
            work: vec![(Cost::Walk, rows), (Cost::Probe, rows * others as f64)],
            children: self.filters(|_| None),
            parts: 1.0,
            newest_first: false,
            first: None,
        })
    }

    fn filtered(&self) -> Select {
        Select {
            detail: "the bitmaps of all conditions joined, rarest first".to_owned(),
            work: self.joins(None).into_iter().chain(self.columns()).collect(),
            children: self.filters(|place| Some(self.narrow(place))),
            parts: 1.0,
            newest_first: false,
            first: None,
        }
    }

    fn full(&self) -> Result<Select, String> {
        let conditions = &self.statistics.conditions;
        if let Some(kept) = conditions.iter().find(|one| !one.kind.is_column() && !one.keeps_all) {
            return Err(format!("{} does not keep every memory", kept.kind.as_str()));
        }
        let columns = conditions.iter().filter(|condition| condition.kind.is_column()).count();
        let live = self.statistics.live as f64;
        Ok(Select {
            detail: format!("every row, {columns} columns looked at"),
            work: vec![(Cost::Column, live * columns as f64)],
            children: self.filters(|_| None),
            parts: 1.0,
            newest_first: false,
            first: None,
        })
    }

    fn time(&self) -> Result<Select, String> {
        let time = self.statistics.conditions.iter().find(|condition| condition.kind == Kind::Time);
        if time.is_none() && self.statistics.ranked {
            return Err("the query names no time, and likeness does not go by it".to_owned());
        }
        let rows = time.map_or(self.statistics.live, |time| time.rows) as f64;
        let buckets = self.statistics.buckets.max(1);
        let others = self.statistics.mapped() - usize::from(time.is_some());
        let mut work = vec![(Cost::Part, buckets as f64), (Cost::Join, rows * others as f64)];
        let cost = self.costs.estimate(&work);
        let detail = format!("{buckets} buckets of 6 h, the newest first");
        let mut children =
            vec![Node::new("partitions", detail, self.passing(self.mapped_bits()), Some(cost))];
        children.extend(self.confidence());
        work.extend(self.columns());
        Ok(Select {
            detail: self.joined_with("each bucket of 6 h", Kind::Time),
            work,
            children,
            parts: buckets as f64,
            newest_first: true,
            first: None,
        })
    }

    fn pools(&self) -> Result<Select, String> {
        let pools = &self.statistics.pools;
        if pools.len() < 2 {
            return Err("the query names fewer than two pools".to_owned());
        }
        let total: f64 = pools.iter().map(|(_, rows)| *rows as f64).sum();
        let share = self.passing(self.mapped_bits()) / total.max(1.0);
        let others = self.statistics.mapped() - 1;
        let mut work = self.joins(Some(Kind::Pool));
        work.push((Cost::Part, pools.len() as f64));
        work.push((Cost::Join, total * (1 + usize::from(others > 0)) as f64));
        work.extend(self.columns());
        let partition = |(pool, rows): &(String, u64)| {
            let detail = format!("memories of {pool} that no earlier partition holds");
            Node::new("partition", detail, *rows as f64 * share, None)
        };
        Ok(Select {
            detail: self.joined_with("each pool", Kind::Pool),
            work,
            children: pools.iter().map(partition).chain(self.confidence()).collect(),
            parts: pools.len() as f64,
            newest_first: false,
            first: None,
        })
    }

    fn text(&self) -> Result<Select, String> {
        let Some(words) = self.statistics.words else {
            return Err("memories are not ranked by words alone".to_owned());
        };
        let filtered = self.filtered();
        let mut work = filtered.work;
        work.push((Cost::Join, 2.0 * joined(words, self.statistics.live)));
        work.push((Cost::Part, 2.0));
        let mut children = filtered.children;
        let rows = (words as f64).min(self.passing(self.all()));
        let detail = "candidates that hold a word of the query, before the rest";
        children.push(Node::new("words", detail, rows, Some(self.costs.estimate(&work[work.len() - 2..]))));
        let detail = "candidates with a word of the query first".to_owned();
        Ok(Select { detail, work, children, parts: 2.0, newest_first: false, first: Some(rows) })
    }

    fn plan(&self, strategy: Strategy, select: Select) -> Plan {
        let candidates = self.passing(self.all());
        let found = candidates.min(self.statistics.limit as f64);
        let (compared, scan_work, threads) = self.scan(&select, candidates);
        let mut select_node =
            Node::new("select", select.detail, candidates, Some(self.costs.estimate(&select.work)));
        select_node.children = select.children;
        let how = match (self.statistics.ranked, self.statistics.dimensions) {
            (false, _) => "no ranking, by time",
            (true, 0) => "what is known without vectors",
            (true, _) => "likeness, proven exact",
        };
        let detail = format!("{how}, threads: {threads}");
        let scan = Node::new("scan", detail, compared, Some(self.costs.estimate(&scan_work)));
        let detail =
            format!("the best {} by score, then the newest, then the last written", self.statistics.limit);
        let rank_work = [(Cost::Order, found)];
        let rank = Node::new("rank", detail, found, Some(self.costs.estimate(&rank_work)));
        let all: Vec<Work> = select.work.into_iter().chain(scan_work).chain(rank_work).collect();
        let cost = self.costs.estimate(&all);
        let mut root = Node::new(strategy.as_str(), "", found, Some(cost));
        root.children = vec![select_node, scan, rank];
        Plan { strategy, root, cost, threads }
    }

    /// Returns how many candidates are compared, what that takes, and on how many threads.
    fn scan(&self, select: &Select, candidates: f64) -> (f64, Vec<Work>, usize) {
        let compared = if select.newest_first && !self.statistics.ranked {
            // Whole partitions, until there are as many as wanted.
            let each = candidates / select.parts;
            candidates.min(self.statistics.limit as f64 + each)
        } else {
            // None of the rest comes before them.
            select.first.filter(|first| *first >= self.statistics.limit as f64).unwrap_or(candidates)
        };
        let values = self.statistics.dimensions;
        let serial = comparing(compared, values, 1);
        let parallel = comparing(compared, values, self.threads);
        let pays = self.threads > 1 && values > 0;
        if pays && self.costs.estimate(&parallel) < self.costs.estimate(&serial) {
            return (compared, parallel, self.threads);
        }
        (compared, serial, 1)
    }

    /// One step a condition, with the rows that pass it and those before it.
    fn filters(&self, cost: impl Fn(usize) -> Option<Duration>) -> Vec<Node> {
        let conditions = self.statistics.conditions.iter().enumerate();
        let step = |(place, condition): (usize, &super::Condition)| {
            let rows = self.passing((2 << place) - 1);
            Node::new(condition.kind.as_str(), condition.detail.clone(), rows, cost(place))
        };
        conditions.map(step).collect()
    }

    /// The step of the condition on confidence, if there is one: it is the last.
    fn confidence(&self) -> Option<Node> {
        let last = self.statistics.conditions.last().filter(|last| last.kind == Kind::Confidence)?;
        let cost = self.costs.estimate(&self.columns());
        Some(Node::new(last.kind.as_str(), last.detail.clone(), self.passing(self.all()), Some(cost)))
    }

    /// Says which conditions the partitions are joined with.
    fn joined_with(&self, what: &str, partitioned: Kind) -> String {
        let others = self.statistics.conditions.iter().map(|condition| condition.kind);
        let others = others.filter(|kind| *kind != partitioned && *kind != Kind::Confidence);
        let names: Vec<_> = others.map(Kind::as_str).collect();
        if names.is_empty() { what.to_owned() } else { format!("{what} joined with {}", names.join(", ")) }
    }

    /// What the step of the condition at `place` takes where bitmaps are joined one after the other.
    fn narrow(&self, place: usize) -> Duration {
        let condition = &self.statistics.conditions[place];
        if condition.kind == Kind::Confidence {
            return self.costs.estimate(&self.columns());
        }
        self.costs.estimate(&condition.work(self.statistics.live))
    }

    /// Joins of whole bitmaps, but for that of `left_out`.
    fn joins(&self, left_out: Option<Kind>) -> Vec<Work> {
        let bitmaps = self
            .statistics
            .conditions
            .iter()
            .filter(|condition| condition.kind != Kind::Confidence && Some(condition.kind) != left_out);
        bitmaps.flat_map(|condition| condition.work(self.statistics.live)).collect()
    }

    /// The column of confidence, which is looked at once the bitmaps are joined.
    fn columns(&self) -> Vec<Work> {
        let confidence = self.statistics.conditions.iter().any(|one| one.kind == Kind::Confidence);
        confidence.then(|| (Cost::Column, self.passing(self.mapped_bits()))).into_iter().collect()
    }

    fn mapped_bits(&self) -> u16 {
        (1 << self.statistics.mapped().min(15)) - 1
    }
}

/// Returns what comparing `rows` vectors of `values` values on `threads` threads takes; no values: only their times.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "at most 4,096 values and as many threads as cores")]
pub(crate) fn comparing(rows: f64, values: usize, threads: usize) -> Vec<Work> {
    let share = rows / threads as f64;
    let work = if values == 0 { (Cost::Order, share) } else { (Cost::Value, share * values as f64) };
    let threads = (threads > 1).then_some((Cost::Thread, threads as f64));
    [work].into_iter().chain(threads).collect()
}

#[cfg(test)]
mod tests {
    use super::{Choice, Wish, choose};
    use crate::plan::{
        Condition, Costs, Kind, Statistics, Strategy,
        statistics::tests::{condition, statistics},
    };

    const FREE: Wish = Wish { threads: 2, strategy: None };

    fn chosen(statistics: &Statistics) -> Choice {
        choose(statistics, &Costs::default(), 1.0, FREE).unwrap()
    }

    fn strategy(statistics: &Statistics) -> Strategy {
        chosen(statistics).plan.strategy
    }

    #[test]
    fn a_count_of_zero_needs_no_look() {
        let nothing = statistics(1_000, vec![condition(Kind::Pool, 0), condition(Kind::Category, 500)]);
        let choice = chosen(&nothing);
        assert_eq!(choice.plan.strategy, Strategy::Empty);
        assert_eq!(choice.plan.root.estimated_rows, 0.0);
        assert_eq!(strategy(&statistics(0, vec![])), Strategy::Empty);
    }

    #[test]
    fn every_memory_is_scanned_where_nothing_is_asked_for() {
        assert_eq!(strategy(&statistics(50_000, vec![])), Strategy::Full);
        let all = Condition { keeps_all: true, ..condition(Kind::Category, 50_000) };
        assert_eq!(strategy(&statistics(50_000, vec![all])), Strategy::Full);
    }

    #[test]
    fn few_rows_are_walked_and_many_bitmaps_joined() {
        let few = vec![condition(Kind::Pool, 5), condition(Kind::Category, 900_000)];
        assert_eq!(strategy(&statistics(1_000_000, few)), Strategy::Direct);
        let many = vec![condition(Kind::Pool, 400_000), condition(Kind::Category, 900_000)];
        assert_eq!(strategy(&statistics(1_000_000, many)), Strategy::Filtered);
    }

    #[test]
    fn a_few_buckets_are_cheaper_than_large_bitmaps() {
        let conditions = vec![condition(Kind::Time, 20_000), condition(Kind::Category, 900_000)];
        let narrow = Statistics { buckets: 4, ..statistics(1_000_000, conditions) };
        assert_eq!(strategy(&narrow), Strategy::Time);
    }

    #[test]
    fn the_newest_are_found_in_the_newest_buckets() {
        let newest = Statistics { ranked: false, buckets: 400, ..statistics(1_000_000, vec![]) };
        let choice = chosen(&newest);
        assert_eq!(choice.plan.strategy, Strategy::Time);
        let scan = choice.plan.root.find("scan").unwrap();
        assert!(scan.estimated_rows < 5_000.0, "{}", scan.estimated_rows);
    }

    #[test]
    fn words_help_where_there_is_an_index_of_them() {
        let plain = statistics(1_000_000, vec![condition(Kind::Category, 900_000)]);
        let wish = Wish { strategy: Some(Strategy::Text), ..FREE };
        let refused = choose(&plain, &Costs::default(), 1.0, wish).unwrap_err();
        assert_eq!(refused.why, "memories are not ranked by words alone");
        let indexed = Statistics { words: Some(100), ..plain };
        let forced = choose(&indexed, &Costs::default(), 1.0, wish).unwrap();
        assert_eq!(forced.plan.root.find("words").unwrap().estimated_rows, 100.0);
    }

    #[test]
    fn what_is_not_taken_says_why() {
        let two = vec![condition(Kind::Pool, 400_000), condition(Kind::Category, 900_000)];
        let choice = chosen(&statistics(1_000_000, two));
        assert_eq!(choice.rejected.len(), Strategy::ALL.len() - 1);
        let of = |strategy| choice.rejected.iter().find(|other| other.strategy == strategy).unwrap();
        assert!(of(Strategy::Direct).cost.unwrap() > choice.plan.cost);
        assert!(of(Strategy::Direct).why.contains("times as much"), "{}", of(Strategy::Direct).why);
        assert_eq!(of(Strategy::Full).why, "filter.pool does not keep every memory");
        assert_eq!(of(Strategy::Empty).cost, None);
    }

    #[test]
    fn threads_are_started_where_that_pays() {
        assert_eq!(chosen(&statistics(200, vec![])).plan.threads, 1);
        assert_eq!(chosen(&statistics(200_000, vec![])).plan.threads, 2);
        let alone = Wish { threads: 1, ..FREE };
        assert_eq!(
            choose(&statistics(200_000, vec![]), &Costs::default(), 1.0, alone).unwrap().plan.threads,
            1
        );
    }

    #[test]
    fn feedback_corrects_what_is_not_counted() {
        let two = statistics(1_000, vec![condition(Kind::Pool, 100), condition(Kind::Category, 500)]);
        let rows = |correction| {
            let choice = choose(&two, &Costs::default(), correction, FREE).unwrap();
            choice.plan.root.find("select").unwrap().estimated_rows
        };
        assert!((rows(1.0) - 50.0).abs() < 1e-9 && (rows(1.5) - 75.0).abs() < 1e-9);
    }
}
