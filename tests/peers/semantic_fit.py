#!/usr/bin/env python3
"""Fits the learned decision of the gateway's semantic tier.

    cargo run --release -p llm-gateway --features bench --example semantic_features -- \
        hashing qqp_near_miss_dev.json paraphrases_999.json > pairs.jsonl
    python3 tests/peers/semantic_fit.py pairs.jsonl services/llm-gateway/src/cache/semantic/models/hashing.json

With the folder of a sentence encoder in place of `hashing` and the feature `minilm`, the lines carry vectors, and a small
network over them is fitted beside the trees. Needs numpy, lightgbm and, for vectors, torch; two cores take some minutes.

The score is a sum of boosted trees over the features (LightGBM) and a share of a network of one layer over (similarity, |u - v|, u * v),
scaled to a probability by logistic regression on scores of pairs left out (Platt 1999). Pairs that the guards object to take no part
but in the counts: they are never served. The threshold is where the wanted share of near misses left out is rejected. Folds never
split what shares a question: near misses go by connected components, paraphrases by the question asked.
"""

import argparse
import json
import math

import lightgbm
import numpy as np

FOLDS = 5
REJECTED = 0.9025  # wanted share of rejected near misses: a little above the goal, half a standard error
TREES = dict(num_leaves=24, learning_rate=0.07, min_data_in_leaf=10, feature_fraction=0.3, bagging_fraction=0.7, bagging_freq=1,
             lambda_l2=5.0, objective="binary", verbose=-1, num_threads=2, seed=7, deterministic=True, force_row_wise=True)
ROUNDS = 150
HIDDEN, EPOCHS, RATE, DECAY, DROPPED, CLIP = 24, 15, 2e-3, 1e-2, (0.3, 0.5), 5.0
NET_SHARE = 0.4
NET_PARAPHRASES = 0.25  # what paraphrases weigh to the network: it is there for near misses
# A paraphrase counts six times and what is merely its neighbour half: most that is asked in other words is to be found.
WEIGHTS = {("near_miss", 0): 1.0, ("near_miss", 1): 1.0, ("paraphrase", 0): 0.5, ("paraphrase", 1): 6.0}


class Net:
    """One hidden layer over standardised inputs; its weights are kept as signed bytes with one scale a row."""

    def __init__(self, inputs, labels, weights):
        import torch

        torch.manual_seed(7)
        torch.set_num_threads(2)
        self.mean, self.deviation = inputs.mean(0), inputs.std(0) + 1e-6
        x = torch.tensor(self.scaled(inputs))
        y, w = (torch.tensor(v.astype(np.float32)) for v in (labels * 0.95 + 0.025, weights))
        net = torch.nn.Sequential(torch.nn.Dropout(DROPPED[0]), torch.nn.Linear(x.shape[1], HIDDEN), torch.nn.ReLU(),
                                  torch.nn.Dropout(DROPPED[1]), torch.nn.Linear(HIDDEN, 1))
        steps = EPOCHS * math.ceil(len(x) / 256)
        optimiser = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
        loss = torch.nn.BCEWithLogitsLoss(reduction="none")
        for _ in range(EPOCHS):
            for batch in torch.randperm(len(x)).split(256):
                error = (loss(net(x[batch])[:, 0], y[batch]) * w[batch]).mean()
                optimiser.zero_grad()
                error.backward()
                optimiser.step()
                schedule.step()
        rows = net[1].weight.detach().numpy()
        self.scale = np.abs(rows).max(1) / 127
        self.rows = np.round(rows / self.scale[:, None]).astype(int)
        self.bias = net[1].bias.detach().numpy()
        self.out, self.out_bias = net[4].weight.detach().numpy()[0], float(net[4].bias.detach()[0])

    def scaled(self, inputs):
        return np.clip((inputs - self.mean) / self.deviation, -CLIP, CLIP).astype(np.float32)

    def score(self, inputs):
        hidden = self.scaled(inputs) @ self.rows.T * self.scale + self.bias
        return np.maximum(hidden, 0) @ self.out + self.out_bias

    def data(self):
        return dict(mean=short(self.mean), deviation=short(self.deviation), rows=self.rows.tolist(), scale=short(self.scale),
                    bias=short(self.bias), out=short(self.out), out_bias=short([self.out_bias])[0])


class Score:
    """The trees and, where there are vectors, the network."""

    def __init__(self, pairs, chosen):
        x, y, w = pairs.features[chosen], pairs.labels[chosen], pairs.weights[chosen]
        self.trees = lightgbm.train(TREES, lightgbm.Dataset(x, y, weight=w), ROUNDS)
        self.net = Net(pairs.inputs[chosen], y, w * pairs.net_shares[chosen]) if pairs.inputs is not None else None

    def of(self, pairs, chosen):
        score = self.trees.predict(pairs.features[chosen], raw_score=True)
        return score + NET_SHARE * self.net.score(pairs.inputs[chosen]) if self.net else score


class Pairs:
    """What the example printed: a head that names embedder and features, then one pair a line."""

    def __init__(self, path):
        with open(path, encoding="utf-8") as lines:
            self.head = json.loads(next(lines))
            rows = [json.loads(line) for line in lines]
        column = lambda name: np.array([row[name] for row in rows])
        self.sets, self.labels, self.guarded, self.ranks = map(column, ("set", "label", "guarded", "rank"))
        self.questions = [row["group"] for row in rows]
        self.features = column("features").astype(np.float32)
        self.weights = np.array([WEIGHTS[row["set"], row["label"]] for row in rows])
        self.net_shares = np.where(self.sets == "paraphrase", NET_PARAPHRASES, 1.0)
        self.inputs = None
        if "one" in rows[0]:
            one, other = column("one").astype(np.float32), column("other").astype(np.float32)
            self.inputs = np.hstack([self.features[:, :1], np.abs(one - other), one * other])

    def folds(self):
        """Assigns components of pairs with a question in common to folds of about the same size."""
        root = {}

        def find(item):
            while root.setdefault(item, item) != item:
                root[item] = root[root[item]]
                item = root[item]
            return item

        for questions in self.questions:
            for question in questions[1:]:
                root[find(questions[0])] = find(question)
        owner = [find(questions[0]) for questions in self.questions]
        names, index = np.unique(owner, return_inverse=True)
        sizes, fold, load = np.bincount(index), np.zeros(len(names), int), np.zeros(FOLDS)
        for component in np.random.RandomState(0).permutation(len(names)):
            fold[component] = load.argmin()
            load[fold[component]] += sizes[component]
        return fold[index]


def short(values):
    return [float(f"{value:.5g}") for value in values]


def platt(scores, labels, weights):
    """Fits a and b of sigmoid(a * score + b) by Newton's method."""
    x, beta = np.column_stack([scores, np.ones(len(scores))]), np.array([1.0, 0.0])
    for _ in range(50):
        p = 1 / (1 + np.exp(-x @ beta))
        slope = x.T @ (weights * (labels - p))
        bend = (x * (weights * p * (1 - p))[:, None]).T @ x + 1e-6 * np.eye(2)
        beta = beta + np.linalg.solve(bend, slope)
    return beta


def wilson(hits, count, z=1.96):
    share, slack = hits / count, z * z / count
    middle, half = share + slack / 2, z * math.sqrt(share * (1 - share) / count + slack / (4 * count))
    return dict(percent=round(100 * share, 2), low=round(100 * (middle - half) / (1 + slack), 2),
                high=round(100 * (middle + half) / (1 + slack), 2), count=int(count))


def figures(pairs, served):
    """Kept and rejected pairs of the near misses; hits and wrong hits where only the nearest paraphrase is asked about."""
    near, nearest = pairs.sets == "near_miss", (pairs.sets == "paraphrase") & (pairs.ranks == 0)
    same, other, hits = near & (pairs.labels == 1), near & (pairs.labels == 0), served & nearest
    wrong = hits & (pairs.labels == 0)
    return dict(kept=wilson(served[same].sum(), same.sum()), rejected=wilson((~served)[other].sum(), other.sum()),
                hits=wilson(hits.sum(), nearest.sum()), wrong_hits=wilson(wrong.sum(), max(1, hits.sum())))


def flat(model):
    """Writes a tree as arrays: child >= 0 is a node, child < 0 the leaf -child - 1."""
    trees = []
    for info in model.dump_model()["tree_info"]:
        tree = dict(feature=[], bound=[], left=[], right=[], leaf=[])

        def walk(node):
            if "leaf_value" in node:
                tree["leaf"] += short([node["leaf_value"]])
                return -len(tree["leaf"])
            place = len(tree["feature"])
            tree["feature"].append(node["split_feature"])
            tree["bound"].append(float(f"{node['threshold']:.7g}"))
            tree["left"].append(0)
            tree["right"].append(0)
            tree["left"][place], tree["right"][place] = walk(node["left_child"]), walk(node["right_child"])
            return place

        walk(info["tree_structure"])
        trees.append(tree)
    return trees


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("pairs", help="what the example semantic_features printed")
    arguments.add_argument("model", help="where the model is written")
    given = arguments.parse_args()
    pairs = Pairs(given.pairs)
    folds, free = pairs.folds(), ~pairs.guarded
    left_out = np.zeros(len(folds))
    for fold in range(FOLDS):
        score = Score(pairs, folds != fold)
        left_out[folds == fold] = score.of(pairs, folds == fold)
        print(f"fold {fold + 1} of {FOLDS}", flush=True)
    slope, offset = platt(left_out[free], pairs.labels[free], pairs.weights[free])
    chance = np.where(free, 1 / (1 + np.exp(-(slope * left_out + offset))), 0)
    misses = chance[(pairs.sets == "near_miss") & (pairs.labels == 0)]
    threshold = float(f"{np.quantile(misses, REJECTED):.4f}")
    whole = Score(pairs, np.ones(len(folds), bool))
    fitted = 1 / (1 + np.exp(-(slope * whole.of(pairs, slice(None)) + offset)))
    provenance = dict(
        data="question pairs alike by characters (near_miss: Quora Question Pairs, evaluation only, not in this repository) and "
             "paraphrases (paraphrase: GPTCache's benchmark, MIT) with the three nearest questions of each",
        caveat="threshold and settings of the fit were chosen on the scores left out, among some twenty tried: expect a little less elsewhere",
        command="tests/peers/semantic_fit.py", embedder=pairs.head["embedder"], folds=FOLDS,
        left_out=figures(pairs, chance >= threshold), in_sample=figures(pairs, free & (fitted >= threshold)))
    print(json.dumps(provenance, indent=1))
    data = dict(provenance=provenance, features=pairs.head["features"], threshold=threshold, slope=short([slope])[0],
                offset=short([offset])[0], net_share=NET_SHARE, net=whole.net.data() if whole.net else None,
                trees=flat(whole.trees))
    with open(given.model, "w", encoding="utf-8") as out:
        # One line an entry, so that a change of the model shows as what it is.
        body = ",\n".join(f'"{key}": {json.dumps(value, separators=(",", ":"))}' for key, value in data.items())
        out.write("{\n" + body + "\n}\n")


if __name__ == "__main__":
    main()
