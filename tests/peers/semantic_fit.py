#!/usr/bin/env python3
"""Fits the learned decision of the gateway's semantic tier.

    cargo run --release -p llm-gateway --features bench --example semantic_features -- \
        hashing qqp_near_miss_dev.json paraphrases_999.json > pairs.jsonl
    python3 tests/peers/semantic_fit.py pairs.jsonl services/llm-gateway/src/cache/semantic/models/hashing.json

With the folder of a sentence encoder in place of `hashing` and the feature `minilm`, the lines carry vectors, and a small
network over them is fitted beside the trees. Needs numpy, scipy, lightgbm and, for vectors, torch; two cores take some minutes.

The score is a sum of boosted trees over the features (LightGBM), for the embedder of spellings with a sum of weights of the words that only
one text has among them, and a share of a network of one layer over (similarity, |u - v|, u * v),
scaled to a probability by logistic regression on scores of pairs left out (Platt 1999). Pairs that the guards object to take no part
but in the counts: they are never served. The threshold is where the wanted share of near misses left out is rejected. Folds never
split what shares a question: near misses go by connected components, paraphrases by the question asked.
"""

import argparse
import collections
import json
import math

import lightgbm
import numpy as np
import scipy.optimize
import scipy.sparse

FOLDS = 5
REJECTED = 0.9025  # wanted share of rejected near misses: a little above the goal, half a standard error
TREES = dict(num_leaves=24, learning_rate=0.07, min_data_in_leaf=10, feature_fraction=0.3, bagging_fraction=0.7, bagging_freq=1,
             lambda_l2=5.0, objective="binary", verbose=-1, num_threads=1, seed=7, deterministic=True, force_row_wise=True)
ROUNDS = 150
CANDIDATES = 3  # nearest questions that are judged
HIDDEN, EPOCHS, RATE, DECAY, DROPPED, CLIP = 24, 15, 2e-3, 1e-2, (0.3, 0.5), 5.0
NET_SHARE = 0.4
NET_PARAPHRASES = 0.25  # what paraphrases weigh to the network: it is there for near misses
WORDS_LEAST, WORDS_RIDGE = 3, 10.0  # pairs that a word must be left over in to have a weight; what its square costs


class Settings:
    """What differs between an embedder of spellings and a sentence encoder.

    A paraphrase counts several times and what is merely its neighbour half: most that is asked in other words is to be found.
    """

    def __init__(self, has_vectors):
        self.words = not has_vectors  # whether words that are left over have weights; to an encoder they add nothing
        self.nearest = 3 if has_vectors else 8  # neighbours of a paraphrase that are learned from
        self.nearness = 0 if has_vectors else 10  # what similarity weighs beside the log-odds of the score
        paraphrase = 6.0 if has_vectors else 8.0
        self.weights = {("near_miss", 0): 1.0, ("near_miss", 1): 1.0, ("paraphrase", 0): 0.5, ("paraphrase", 1): paraphrase}


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


class Words:
    """A weight for each stem that is left over often enough: ridge logistic regression.

    Of near misses only: paraphrases are of one handbook, and would teach its vocabulary.
    """

    def __init__(self, pairs, chosen):
        chosen = chosen[pairs.sets[chosen] == "near_miss"]
        counts = collections.Counter(stem for place in chosen for stem in pairs.alone[place])
        self.places = {stem: place for place, stem in enumerate(sorted(stem for stem in counts if counts[stem] >= WORDS_LEAST))}
        x, signs, w = self.table(pairs, chosen), 2.0 * pairs.labels[chosen] - 1, pairs.weights[chosen]

        def loss(beta):
            """Returns loss and slope; the last weight is what every pair has, and costs nothing."""
            margin = signs * (x @ beta[:-1] + beta[-1])
            pull = -w * signs / (1 + np.exp(margin))
            slope = np.append(x.T @ pull + WORDS_RIDGE * beta[:-1], pull.sum())
            return (w * np.logaddexp(0, -margin)).sum() + WORDS_RIDGE / 2 * (beta[:-1] ** 2).sum(), slope

        beta = scipy.optimize.minimize(loss, np.zeros(len(self.places) + 1), jac=True, method="L-BFGS-B").x
        self.weights = short(beta[:-1])

    def table(self, pairs, chosen):
        cells = [(row, self.places[stem]) for row, place in enumerate(chosen) for stem in pairs.alone[place] if stem in self.places]
        rows, columns = zip(*cells) if cells else ((), ())
        return scipy.sparse.csr_matrix((np.ones(len(cells)), (rows, columns)), shape=(len(chosen), len(self.places)))

    def of(self, pairs, chosen):
        return self.table(pairs, chosen) @ np.array(self.weights)

    def data(self):
        return dict(zip(self.places, self.weights))


class Score:
    """The trees and, where there are vectors, the network."""

    def __init__(self, pairs, chosen):
        x, y, w = pairs.features[chosen], pairs.labels[chosen], pairs.weights[chosen]
        self.words = None
        if pairs.settings.words:
            # The trees learn from weights that were fitted without the pair in question: they would trust them too much otherwise.
            weight, places = np.zeros(len(pairs.labels)), np.flatnonzero(chosen)
            for fold in np.unique(pairs.folds[places]):
                held = places[pairs.folds[places] == fold]
                weight[held] = Words(pairs, places[pairs.folds[places] != fold]).of(pairs, held)
            self.words = Words(pairs, places)
            x = np.column_stack([x, weight[chosen]])
        self.trees = lightgbm.train(TREES, lightgbm.Dataset(x, y, weight=w), ROUNDS)
        self.net = Net(pairs.inputs[chosen], y, w * pairs.net_shares[chosen]) if pairs.inputs is not None else None

    def of(self, pairs, chosen):
        x = pairs.features[chosen]
        if self.words:
            x = np.column_stack([x, self.words.of(pairs, np.arange(len(pairs.labels))[chosen])])
        score = self.trees.predict(x, raw_score=True)
        return score + NET_SHARE * self.net.score(pairs.inputs[chosen]) if self.net else score


class Pairs:
    """What the example printed: a head that names embedder and features, then one pair a line."""

    def __init__(self, path):
        with open(path, encoding="utf-8") as lines:
            self.head = json.loads(next(lines))
            rows = [json.loads(line) for line in lines]
        self.settings = Settings("one" in rows[0])
        rows = [row for row in rows if row["rank"] < self.settings.nearest or row["label"] == 1]
        column = lambda name: np.array([row[name] for row in rows])
        self.sets, self.labels, self.guarded, self.ranks = map(column, ("set", "label", "guarded", "rank"))
        self.questions = [row["group"] for row in rows]
        self.features = column("features").astype(np.float32)
        self.alone = [sorted(set(row["alone"])) for row in rows]
        self.weights = np.array([self.settings.weights[row["set"], row["label"]] for row in rows])
        self.net_shares = np.where(self.sets == "paraphrase", NET_PARAPHRASES, 1.0)
        self.inputs = None
        if "one" in rows[0]:
            one, other = column("one").astype(np.float32), column("other").astype(np.float32)
            self.inputs = np.hstack([self.features[:, :1], np.abs(one - other), one * other])
        self.folds = self.assigned()

    def assigned(self):
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


def figures(pairs, chance, threshold, nearness):
    """Kept and rejected pairs of the near misses; hits and wrong hits where the best of the nearest paraphrases is served."""
    served, near = chance >= threshold, pairs.sets == "near_miss"
    same, other = near & (pairs.labels == 1), near & (pairs.labels == 0)
    bounded = np.clip(chance, 1e-6, 1 - 1e-6)
    rank = np.log(bounded / (1 - bounded)) + nearness * pairs.features[:, 0] if nearness else chance
    asked = [questions[0] for questions in pairs.questions]
    best, nearest = {}, ~near & (pairs.ranks == 0)
    # The program looks no further at what is less similar.
    for place in np.flatnonzero(served & ~near & (pairs.ranks < CANDIDATES) & (pairs.features[:, 0] >= 0.5)):
        if asked[place] not in best or rank[place] > rank[best[asked[place]]]:
            best[asked[place]] = place
    # Asked twice counts twice.
    hits = [best[asked[place]] for place in np.flatnonzero(nearest) if asked[place] in best]
    hits, wrong = np.array(hits), pairs.labels[hits] == 0
    return dict(kept=wilson(served[same].sum(), same.sum()), rejected=wilson((~served)[other].sum(), other.sum()),
                hits=wilson(len(hits), nearest.sum()), wrong_hits=wilson(wrong.sum(), max(1, len(hits))))


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
    folds, free = pairs.folds, ~pairs.guarded
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
    nearness = pairs.settings.nearness
    provenance = dict(
        data="question pairs alike by characters (near_miss: Quora Question Pairs, evaluation only, not in this repository) and "
             "paraphrases (paraphrase: GPTCache's benchmark, MIT) with the questions nearest to each",
        caveat="threshold and settings of the fit were chosen on the scores left out, among some thirty tried: expect a little less elsewhere",
        command="tests/peers/semantic_fit.py", embedder=pairs.head["embedder"], folds=FOLDS,
        left_out=figures(pairs, chance, threshold, nearness), in_sample=figures(pairs, np.where(free, fitted, 0), threshold, nearness))
    print(json.dumps(provenance, indent=1))
    data = dict(provenance=provenance, features=pairs.head["features"], threshold=threshold, nearness=nearness, slope=short([slope])[0],
                offset=short([offset])[0], net_share=NET_SHARE, net=whole.net.data() if whole.net else None,
                words=whole.words.data() if whole.words else {}, trees=flat(whole.trees))
    with open(given.model, "w", encoding="utf-8") as out:
        # One line an entry, so that a change of the model shows as what it is.
        body = ",\n".join(f'"{key}": {json.dumps(value, separators=(",", ":"))}' for key, value in data.items())
        out.write("{\n" + body + "\n}\n")


if __name__ == "__main__":
    main()
