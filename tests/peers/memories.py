"""Measures vector engines beside ours, on the same vectors and filters, and prints one JSON object; see README.md."""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from peers import Home, machine, run

DIMENSIONS = 384
QUERIES = 60
BEST = 10
CLUSTERS = 20
# Shares of the rows that a filter keeps, and the name of the field that says so.
SHARES = {"r50": 0.5, "r10": 0.1, "r1": 0.01, "r01": 0.001}
PACKAGES = {
    "qdrant_edge": "qdrant-edge-py==0.9.0",
    "usearch": "usearch==2.26.6",
    "lancedb": "lancedb==0.40.0",
    "chromadb": "chromadb==1.5.9",
    "faiss": "faiss-cpu==1.15.1",
}


def data(size):
    """Makes vectors in clusters of one width, their labels, and queries near rows, from one seed."""
    import numpy as np

    random = np.random.default_rng(20_261_126)
    centres = random.normal(size=(CLUSTERS, DIMENSIONS))
    labels = random.integers(0, CLUSTERS, size)
    vectors = centres[labels] + random.normal(size=(size, DIMENSIONS)) * 1.2
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype("float32")
    asked = random.integers(0, size, QUERIES)
    queries = vectors[asked] + random.normal(size=(QUERIES, DIMENSIONS)) * 0.03
    queries = (queries / np.linalg.norm(queries, axis=1, keepdims=True)).astype("float32")
    fields = {name: random.random(size) < share for name, share in SHARES.items()}
    return vectors, queries, labels, labels[asked], fields


def filters(labels, near, fields):
    """Names each filter, and for each query the field and value it asks for, and the rows that pass."""
    yield "none", [None] * QUERIES
    for name in fields:
        yield name, [(name, 1)] * QUERIES
    yield "related", [("cluster", int(label)) for label in near]
    yield "unrelated", [("cluster", int(label + CLUSTERS // 2) % CLUSTERS) for label in near]


class Qdrant:
    def __init__(self, folder, vectors, labels, fields):
        import qdrant_edge as q

        self.q = q
        config = q.EdgeConfig(vectors=q.EdgeVectorParams(size=DIMENSIONS, distance=q.Distance.Cosine))
        self.shard = q.EdgeShard.create(str(folder), config)
        for name in fields:
            self.shard.update(q.UpdateOperation.create_field_index(name, q.PayloadSchemaType.Integer))
        self.shard.update(q.UpdateOperation.create_field_index("cluster", q.PayloadSchemaType.Integer))
        for start in range(0, len(vectors), 1000):
            rows = range(start, min(start + 1000, len(vectors)))
            payload = lambda row: {"cluster": int(labels[row]), **{name: int(on[row]) for name, on in fields.items()}}
            points = [q.Point(row, vectors[row].tolist(), payload(row)) for row in rows]
            self.shard.update(q.UpdateOperation.upsert_points(points))
        self.shard.optimize()

    def search(self, query, clause):
        q = self.q
        must = [q.FieldCondition(clause[0], match=q.MatchValue(clause[1]))] if clause else None
        wanted = q.QueryRequest(BEST, query=q.Query.Nearest(query.tolist()), filter=q.Filter(must=must) if must else None)
        return [point.id for point in self.shard.query(wanted)]


class Usearch:
    def __init__(self, folder, vectors, labels, fields):
        import numpy as np
        from usearch.index import Index

        self.index = Index(ndim=DIMENSIONS, metric="cos", dtype="f32")
        self.index.add(np.arange(len(vectors)), vectors)

    def search(self, query, clause):
        # Its Python package takes no filter.
        return None if clause else self.index.search(query, BEST).keys.tolist()


class Lance:
    def __init__(self, folder, vectors, labels, fields):
        import lancedb
        import pyarrow as arrow

        flat = arrow.FixedSizeListArray.from_arrays(arrow.array(vectors.reshape(-1)), DIMENSIONS)
        columns = {"id": arrow.array(range(len(vectors))), "vector": flat, "cluster": arrow.array(labels)}
        columns |= {name: arrow.array(on.astype("int8")) for name, on in fields.items()}
        self.table = lancedb.connect(folder).create_table("memories", arrow.table(columns))
        for name in ("cluster", *fields):
            self.table.create_scalar_index(name, index_type="BITMAP")

    def search(self, query, clause):
        # Without a vector index its scan is exact; its IVF_PQ is not.
        search = self.table.search(query).distance_type("cosine").limit(BEST).select(["id", "_distance"])
        if clause:
            search = search.where(f"{clause[0]} = {clause[1]}", prefilter=True)
        return search.to_arrow()["id"].to_pylist()


class Chroma:
    def __init__(self, folder, vectors, labels, fields):
        import chromadb
        from chromadb.config import Settings

        client = chromadb.PersistentClient(str(folder), Settings(anonymized_telemetry=False))
        self.collection = client.create_collection("memories", metadata={"hnsw:space": "cosine"}, embedding_function=None)
        for start in range(0, len(vectors), 5000):
            rows = range(start, min(start + 5000, len(vectors)))
            about = lambda row: {"cluster": int(labels[row]), **{name: int(on[row]) for name, on in fields.items()}}
            self.collection.add(
                ids=[str(row) for row in rows],
                embeddings=vectors[rows.start:rows.stop],
                metadatas=[about(row) for row in rows],
            )

    def search(self, query, clause):
        where = {clause[0]: clause[1]} if clause else None
        found = self.collection.query(query_embeddings=[query], n_results=BEST, where=where, include=[])
        return [int(id) for id in found["ids"][0]]


class Faiss:
    def __init__(self, folder, vectors, labels, fields):
        import faiss
        import numpy as np

        self.faiss, self.numpy = faiss, np
        self.index = faiss.IndexFlatIP(DIMENSIONS)
        self.index.add(vectors)
        self.rows = {(name, 1): np.flatnonzero(on) for name, on in fields.items()}
        self.rows |= {("cluster", label): np.flatnonzero(labels == label) for label in range(CLUSTERS)}
        # Its filter is a bitmap of rows that the caller keeps.
        self.selectors = {clause: self.selector(rows, len(vectors)) for clause, rows in self.rows.items()}

    def selector(self, rows, size):
        bits = self.numpy.zeros(size, dtype=bool)
        bits[rows] = True
        packed = self.numpy.packbits(bits, bitorder="little")
        return self.faiss.IDSelectorBitmap(packed), packed

    def search(self, query, clause):
        params = self.faiss.SearchParameters(sel=self.selectors[clause][0]) if clause else None
        return self.index.search(query[None], BEST, params=params)[1][0].tolist()


ENGINES = {"qdrant_edge": Qdrant, "usearch": Usearch, "lancedb": Lance, "chromadb": Chroma, "faiss": Faiss}


def truth(vectors, queries, labels, near, fields):
    """Finds the best rows of each filter and query by comparing every one, in 64 bits."""
    import numpy as np

    found, scores = {}, vectors.astype("float64") @ queries.T.astype("float64")
    for name, clauses in filters(labels, near, fields):
        best = []
        for all, clause in zip(scores.T, clauses):
            if clause:
                passes = labels == clause[1] if clause[0] == "cluster" else fields[clause[0]]
                all = np.where(passes, all, -2.0)
            top = np.argpartition(-all, BEST)[:BEST]
            best.append(set(top[all[top] > -2.0].tolist()))
        found[name] = best
    return found


def measured(name, size, folder):
    """Builds one engine in this process and asks it everything."""
    import os

    import numpy as np
    import psutil

    vectors, queries, labels, near, fields = data(size)
    wanted = truth(vectors, queries, labels, near, fields)
    process = psutil.Process(os.getpid())
    before, begun = process.memory_info().rss, time.perf_counter()
    engine = ENGINES[name](folder, vectors, labels, fields)
    built = time.perf_counter() - begun
    found = {}
    for filter, clauses in filters(labels, near, fields):
        if engine.search(queries[0], clauses[0]) is None:
            found[filter] = None
            continue
        times, right, all = [], 0, 0
        for query, clause, best in zip(queries, clauses, wanted[filter]):
            start = time.perf_counter()
            rows = engine.search(query, clause)
            times.append((time.perf_counter() - start) * 1e3)
            right, all = right + len(best & set(rows)), all + len(best)
        p50, p95 = np.percentile(times, [50, 95])
        found[filter] = {"p50_ms": round(p50, 3), "p95_ms": round(p95, 3), "recall_at_10": round(right / all, 4) if all else None}
    grown = process.memory_info().rss - before
    return {"build_s": round(built, 2), "grown_bytes": grown, "filters": found}


def ours(program, size, folder):
    """Writes the same vectors to files and lets our own program answer from them."""
    vectors, queries, labels, near, fields = data(size)
    wanted = truth(vectors, queries, labels, near, fields)
    vectors.tofile(folder / "vectors.f32")
    queries.tofile(folder / "queries.f32")
    about = [[f"cluster-{label}", *(name for name in fields if fields[name][row])] for row, label in enumerate(labels)]
    tag = lambda clause: f"cluster-{clause[1]}" if clause[0] == "cluster" else clause[0]
    asked = {
        name: [tag(clause) if clause else None for clause in clauses]
        for name, clauses in filters(labels, near, fields)
    }
    told = {"dimensions": DIMENSIONS, "tags": about, "filters": asked}
    (folder / "asked.json").write_text(json.dumps(told))
    said = json.loads(subprocess.run([program, folder], check=True, stdout=subprocess.PIPE).stdout)
    for name, found in said["filters"].items():
        rows = found.pop("rows")
        right = sum(len(best & set(row)) for best, row in zip(wanted[name], rows))
        all = sum(map(len, wanted[name]))
        # A filter that no row passes has nothing to be found.
        found["recall_at_10"] = round(right / all, 4) if all else None
    return said


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, nargs="+", default=[50_000, 250_000])
    parser.add_argument("--engine", choices=ENGINES, nargs="+", default=list(ENGINES))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        with tempfile.TemporaryDirectory() as name:
            folder, [size] = Path(name), args.size
            told = measured(args.one, size, folder / "engine") if args.one in ENGINES else ours(args.one, size, folder)
            print(json.dumps(told))
        return
    home = Home()
    program = home.release("examples", "recall")
    python = home.python("memories", *PACKAGES.values(), "numpy", "psutil") / "python"
    details = {"machine": machine()}
    for size in args.size:
        details[str(size)] = {}
        for name in ("athena", *args.engine):
            print(f"{size} vectors: {name}", file=sys.stderr)
            # A process each, so that its memory is its own.
            one = program if name == "athena" else name
            done = run(python, __file__, "--one", one, "--size", size)
            details[str(size)][name] = json.loads(done.splitlines()[-1])
    print(json.dumps({"name": "memory.peers", "details": details}, indent=1))


if __name__ == "__main__":
    main()
