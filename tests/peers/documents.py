"""Measures Firestore clients beside our batcher, on the same writes and the same emulator, and prints one JSON object; see README.md."""

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from peers import ROOT, Home, Program, free_port, machine, run, start

PROJECT = "demo-athena"
WRITES = 10_000
DOCUMENTS = 300
THREADS = 16
PACKAGES = ("google-cloud-firestore==2.21.0", "grpcio", "grpcio-tools")


def state(number):
    return f"0x{number % DOCUMENTS:040x}", {"apr": float(number), "note": f"{number:0220}"}


class Acknowledged:
    """When each write was begun, and when its caller was told of it."""

    def __init__(self):
        self.took, self.lock, self.begun = [], threading.Lock(), time.perf_counter()

    def note(self, begun):
        now = time.perf_counter()
        with self.lock:
            self.took.append((now - begun) * 1e3)
            self.last = now

    def told(self, documents):
        took = sorted(self.took)
        return {
            "acks_per_s": round(len(took) / (self.last - self.begun), 1),
            "p50_ms": round(took[len(took) // 2], 2),
            "p99_ms": round(took[len(took) * 99 // 100], 2),
            "acknowledged": len(took),
            "documents": documents,
        }


def by_threads(write):
    """Lets all threads write, each one write after another."""
    acknowledged = Acknowledged()

    def one(number):
        begun = time.perf_counter()
        write(number)
        acknowledged.note(begun)

    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(one, range(WRITES)))
    return acknowledged


def collection():
    from google.cloud import firestore

    client = firestore.Client(project=PROJECT)
    return client, client.collection("pools")


def naive():
    _, pools = collection()

    def write(number):
        id, fields = state(number)
        pools.document(id).set(fields)

    return by_threads(write).told(WRITES)


def bulk_writer(unlimited=False):
    from google.cloud.firestore_v1.bulk_writer import BulkWriterOptions

    client, pools = collection()
    options = BulkWriterOptions(initial_ops_per_second=10**6, max_ops_per_second=10**6) if unlimited else None
    writer = client.bulk_writer(options=options)
    acknowledged, begun = Acknowledged(), {}
    writer.on_write_result(lambda reference, *_: acknowledged.note(begun[reference.id].pop(0)))
    for number in range(WRITES):
        id, fields = state(number)
        begun.setdefault(id, []).append(time.perf_counter())
        writer.set(pools.document(id), fields)
    writer.close()
    return acknowledged.told(len(acknowledged.took))


def athena(port):
    import grpc

    with tempfile.TemporaryDirectory() as made:
        from grpc_tools import protoc

        contract = "athena/storage/v1"
        files = [str(file.relative_to(ROOT / "proto")) for file in sorted((ROOT / "proto" / contract).glob("*.proto"))]
        included = Path(protoc.__file__).parent / "_proto"
        if protoc.main(["", f"-I{ROOT / 'proto'}", f"-I{included}", f"--python_out={made}", f"--grpc_python_out={made}", *files]):
            sys.exit("the contract cannot be compiled")
        sys.path.insert(0, made)
        from athena.storage.v1 import storage_pb2, storage_pb2_grpc

    stub = storage_pb2_grpc.StorageBatcherServiceStub(grpc.insecure_channel(f"127.0.0.1:{port}"))
    document = sys.modules.get("athena.storage.v1.document_pb2", storage_pb2)

    def write(number):
        id, fields = state(number)
        value = document.Value
        wanted = {"apr": value(double_value=fields["apr"]), "note": value(string_value=fields["note"])}
        write = document.DocumentWrite(collection="pools", document_id=id, mode="WRITE_MODE_SET", fields=wanted)
        stub.Write(storage_pb2.WriteRequest(write=write))

    acknowledged = by_threads(write)
    stub.Flush(storage_pb2.FlushRequest())
    return acknowledged.told(stub.GetCosts(storage_pb2.GetCostsRequest()).written_documents)


CLIENTS = {
    "naive": naive,
    "bulk_writer": bulk_writer,
    "bulk_writer_unlimited": lambda: bulk_writer(unlimited=True),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        told = CLIENTS[args.one]() if args.one in CLIENTS else athena(args.one)
        return print(json.dumps(told))
    home = Home()
    emulator, batcher = home.release("examples", "emulator"), home.release("athena")
    python = home.python("documents", *PACKAGES) / "python"
    rounds = {name: [] for name in ("athena", *CLIENTS)}
    for number in range(args.rounds):
        for name, told in rounds.items():
            print(f"round {number + 1}: {name}", file=sys.stderr)
            with tempfile.TemporaryDirectory() as folder:
                port, ours = free_port(), free_port()
                # An empty one each, so that nobody finds what others left.
                running = [start(Program([emulator, port], port), home, "emulator")]
                os.environ["FIRESTORE_EMULATOR_HOST"] = f"127.0.0.1:{port}"
                settings = [f"storage_port={ours}", f"storage_dir={folder}", f"firestore_project={PROJECT}"]
                settings.append(f"firestore_url=127.0.0.1:{port}")
                words = [word for setting in settings for word in ("--set", setting)]
                if name == "athena":
                    running.append(start(Program([batcher, "serve", "storage-batcher", *words], ours), home, "batcher"))
                    time.sleep(1)
                try:
                    told.append(json.loads(run(python, __file__, "--one", ours if name == "athena" else name)))
                finally:
                    for process in reversed(running):
                        process.end()
    middle = lambda told: sorted(told, key=lambda one: one["acks_per_s"])[len(told) // 2]
    details = {name: middle(told) for name, told in rounds.items()}
    details |= {"machine": machine(), "client": home.version("documents"), "writes": WRITES}
    print(json.dumps({"name": "storage.peers", "rounds": args.rounds, "details": details}, indent=1))


if __name__ == "__main__":
    main()
