//! The learned part of the decision: boosted trees over the features, weights of the words left over and a small network over the vectors.

use std::collections::{BTreeSet, HashMap};

use serde::Deserialize;
use serde_json::Value;

use super::features::{Features, NAMES};

/// Standardised inputs of the network are cut off here.
const CLIP: f32 = 5.0;

/// What was fitted on labelled pairs, read from a data file; `tests/peers/semantic_fit.py` writes it.
#[derive(Clone, Debug, Deserialize)]
pub struct Model {
    /// What it was fitted on, how, and what it reached on pairs left out.
    pub provenance: Value,
    /// The score from which an answer is served, 0 to 1.
    pub threshold: f32,
    /// What similarity weighs beside the log-odds of the score where several answers may be served; 0: the score alone decides.
    #[serde(default)]
    pub nearness: f32,
    features: Vec<String>,
    /// What a word says that only one text has, by its stem.
    #[serde(default)]
    words: HashMap<String, f32>,
    slope: f32,
    offset: f32,
    net_share: f32,
    trees: Vec<Tree>,
    net: Option<Net>,
}

/// A model file is not usable.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is no JSON of the documented shape.
    #[error("the model of the semantic tier is malformed")]
    Malformed(#[from] serde_json::Error),
    /// It was fitted on other features than this program measures.
    #[error("the model of the semantic tier knows other features than this program")]
    Features,
    /// A tree or the network points out of its own arrays.
    #[error("the {0} of the semantic tier's model does not fit together")]
    Shape(&'static str),
}

/// A regression tree as arrays. A child of at least 0 is a node behind it, one below 0 the leaf `-child - 1`.
#[derive(Clone, Debug, Deserialize)]
struct Tree {
    feature: Vec<usize>,
    bound: Vec<f32>,
    left: Vec<i32>,
    right: Vec<i32>,
    leaf: Vec<f32>,
}

/// One hidden layer of rectified units over (similarity, |u − v|, u · v by components), standardised.
#[derive(Clone, Debug, Deserialize)]
struct Net {
    mean: Vec<f32>,
    deviation: Vec<f32>,
    rows: Vec<Vec<i8>>,
    scale: Vec<f32>,
    bias: Vec<f32>,
    out: Vec<f32>,
    out_bias: f32,
}

impl Model {
    /// Reads a model file.
    ///
    /// # Errors
    ///
    /// Fails if the file is malformed, was fitted on other features, or does not fit together.
    pub fn read(json: &str) -> Result<Self, Error> {
        let model: Self = serde_json::from_str(json)?;
        if model.features != NAMES {
            return Err(Error::Features);
        }
        if !model.trees.iter().all(Tree::is_sound) {
            return Err(Error::Shape("trees"));
        }
        if !model.net.iter().all(Net::is_sound) {
            return Err(Error::Shape("network"));
        }
        Ok(model)
    }

    /// Returns what the words say that only one text has, by their stems.
    #[must_use]
    pub fn weigh<'a>(&self, alone: impl Iterator<Item = &'a str>) -> f32 {
        if self.words.is_empty() {
            return 0.0;
        }
        // In a fixed order, for sums of f32 depend on it.
        let stems: BTreeSet<&str> = alone.collect();
        stems.into_iter().filter_map(|stem| self.words.get(stem)).sum()
    }

    /// Returns how likely it is that both texts ask the same, 0 to 1, by what was learned. Without vectors of the fitted size the
    /// network says nothing. `weight` is what [`Model::weigh`] says of the words left over.
    #[must_use]
    pub fn score(&self, features: &Features, weight: f32, one: &[f32], other: &[f32]) -> f32 {
        let trees: f32 = self.trees.iter().map(|tree| tree.value(features, weight)).sum();
        let net = self.net.as_ref().map_or(0.0, |net| net.value(features[0], one, other));
        let sum = self.slope * (trees + self.net_share * net) + self.offset;
        1.0 / (1.0 + (-sum).exp())
    }

    /// Returns how many components a vector must have; none if any will do.
    #[must_use]
    pub fn dimensions(&self) -> Option<usize> {
        self.net.as_ref().map(|net| net.mean.len() / 2)
    }
}

impl Tree {
    /// The feature behind the last is `weight`.
    fn value(&self, features: &Features, weight: f32) -> f32 {
        let mut node = 0;
        while let Ok(place) = usize::try_from(node) {
            let feature = features.get(self.feature[place]).copied().unwrap_or(weight);
            let low = feature <= self.bound[place];
            node = if low { self.left[place] } else { self.right[place] };
        }
        self.leaf[leaf(node)]
    }

    /// Tells whether every node leads onward and to a leaf that is there.
    fn is_sound(&self) -> bool {
        let nodes = self.feature.len();
        let leads = |place: usize, child: i32| match usize::try_from(child) {
            Ok(child) => child > place && child < nodes,
            Err(_) => leaf(child) < self.leaf.len(),
        };
        let sizes = [self.bound.len(), self.left.len(), self.right.len()];
        nodes > 0
            && sizes.iter().all(|size| *size == nodes)
            && self.feature.iter().all(|feature| *feature <= NAMES.len())
            && (0..nodes).all(|place| leads(place, self.left[place]) && leads(place, self.right[place]))
    }
}

/// Returns the place of a leaf: −1 is the first.
fn leaf(child: i32) -> usize {
    (-i64::from(child) - 1).unsigned_abs() as usize
}

impl Net {
    fn value(&self, similarity: f32, one: &[f32], other: &[f32]) -> f32 {
        let pairs = || one.iter().zip(other);
        let inputs = std::iter::once(similarity)
            .chain(pairs().map(|(one, other)| (one - other).abs()))
            .chain(pairs().map(|(one, other)| one * other));
        let standard = self.mean.iter().zip(&self.deviation);
        let inputs: Vec<f32> = inputs
            .zip(standard)
            .map(|(input, (mean, by))| ((input - mean) / by).clamp(-CLIP, CLIP))
            .collect();
        if inputs.len() != self.mean.len() {
            return 0.0;
        }
        let units = self.rows.iter().zip(&self.scale).zip(&self.bias).zip(&self.out);
        let unit = |(((row, scale), bias), out): (((&Vec<i8>, &f32), &f32), &f32)| {
            let sum: f32 = row.iter().zip(&inputs).map(|(weight, input)| f32::from(*weight) * input).sum();
            (sum * scale + bias).max(0.0) * out
        };
        units.map(unit).sum::<f32>() + self.out_bias
    }

    fn is_sound(&self) -> bool {
        let (inputs, units) = (self.mean.len(), self.rows.len());
        inputs % 2 == 1
            && self.deviation.len() == inputs
            && self.deviation.iter().all(|by| *by > 0.0)
            && self.rows.iter().all(|row| row.len() == inputs)
            && [self.scale.len(), self.bias.len(), self.out.len()].iter().all(|size| *size == units)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Error, Model, NAMES};

    fn file(left: i32, features: &[&str]) -> String {
        json!({
            "provenance": {}, "threshold": 0.5, "features": features, "slope": 1.0, "offset": 0.0, "net_share": 0.5,
            "trees": [{ "feature": [0], "bound": [0.7], "left": [left], "right": [-2], "leaf": [-2.0, 2.0] }],
            "net": { "mean": [0.0, 0.0, 0.0], "deviation": [1.0, 1.0, 1.0], "rows": [[0, 100, 0]], "scale": [0.01],
                "bias": [0.0], "out": [-4.0], "out_bias": 0.0 },
        })
        .to_string()
    }

    #[test]
    fn trees_and_network_add_up_to_a_probability() {
        let model = Model::read(&file(-1, &NAMES)).unwrap();
        let mut features = [0.0; NAMES.len()];
        features[0] = 0.9;
        let logistic = |sum: f32| 1.0 / (1.0 + (-sum).exp());
        assert!((model.score(&features, 0.0, &[0.5], &[0.5]) - logistic(2.0)).abs() < 1e-6);
        assert!((model.score(&features, 0.0, &[1.0], &[0.5]) - logistic(2.0 - 0.5 * 0.5 * 4.0)).abs() < 1e-6);
        features[0] = 0.7;
        assert!((model.score(&features, 0.0, &[0.5], &[0.5]) - logistic(-2.0)).abs() < 1e-6);
        assert_eq!(model.dimensions(), Some(1));
    }

    #[test]
    fn words_left_over_weigh_once_each_and_trees_may_ask_for_their_sum() {
        let mut file: serde_json::Value = serde_json::from_str(&file(-1, &NAMES)).unwrap();
        file["words"] = json!({ "best": 0.5, "india": -2.0 });
        file["trees"][0]["feature"] = json!([NAMES.len()]);
        file["trees"][0]["bound"] = json!([-1.0]);
        let model = Model::read(&file.to_string()).unwrap();
        let weight = model.weigh(["india", "best", "india", "other"].into_iter());
        assert_eq!(weight, -1.5);
        let score = |weight| model.score(&[0.0; NAMES.len()], weight, &[], &[]);
        assert!(score(weight) < 0.2 && score(0.0) > 0.8);
    }

    #[test]
    fn a_file_that_does_not_fit_is_refused() {
        assert!(matches!(Model::read("{}"), Err(Error::Malformed(_))));
        assert!(matches!(Model::read(&file(-1, &["similarity"])), Err(Error::Features)));
        for child in [0, 1, -3] {
            assert!(matches!(Model::read(&file(child, &NAMES)), Err(Error::Shape("trees"))), "{child}");
        }
    }
}
