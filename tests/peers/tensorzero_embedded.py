"""Measures TensorZero's embedded gateway beside ours from one Python process, one call after another; see README.md.

It has no gateway of its own in its package, so it cannot be put under the load of the others.
"""

import concurrent.futures
import http.client
import json
import os
import sys
import time

from peers import Home, Mock, machine, median, start

ROUNDS, CALLS, BURST, SLOW_MS = 5, 500, 100, 300


def config(home, mock):
    path = home.file("tensorzero.toml")
    path.write_text(f"""
[gateway]
observability.enabled = false

[models.mock]
routing = ["mock"]

[models.mock.providers.mock]
type = "openai"
model_name = "mock"
api_base = "{mock.url}"
api_key_location = "none"
""")
    return path


def over_http(port):
    """Returns a function that asks over one kept connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    headers = {"content-type": "application/json"}

    def ask(text):
        body = json.dumps({"model": "mock", "messages": [{"role": "user", "content": text}]})
        connection.request("POST", "/v1/chat/completions", body, headers)
        answer = connection.getresponse()
        assert answer.read() and answer.status == 200

    return ask


def times(ask, word):
    took = []
    for number in range(CALLS):
        begun = time.perf_counter()
        ask(f"{word} {number}")
        took.append((time.perf_counter() - begun) * 1e6)
    took.sort()
    return {"p50": took[len(took) // 2], "p99": took[len(took) * 99 // 100]}


def burst(ask, mock):
    mock.delay(SLOW_MS)
    before = mock.calls()
    with concurrent.futures.ThreadPoolExecutor(BURST) as pool:
        list(pool.map(ask, ["the same"] * BURST))
    mock.delay(0)
    return mock.calls() - before


def main(home):
    # It logs to standard output.
    os.environ["RUST_LOG"] = "error"
    from gateways import athena
    from tensorzero import TensorZeroGateway

    with Mock(home) as mock:
        ours = start(athena(home, mock), home, "athena")
        embedded = TensorZeroGateway.build_embedded(config_file=str(config(home, mock)))

        def infer(text):
            messages = {"messages": [{"role": "user", "content": text}]}
            embedded.inference(model_name="mock", input=messages)

        ways = {"direct": over_http(mock.port), "athena": over_http(ours.port), "tensorzero": infer}
        for name, ask in ways.items():
            times(ask, f"warm {name}")
        rounds = [{name: times(ask, f"{name} {at}") for name, ask in ways.items()} for at in range(ROUNDS)]
        added = lambda name, key: [leg[name][key] - leg["direct"][key] for leg in rounds]
        values = added("tensorzero", "p99")
        calls = burst(infer, mock)
        ours.end()
    print(json.dumps({
        "bench": "gateway.overhead",
        "value": median(values),
        "min": min(values),
        "max": max(values),
        "unit": "us",
        "better": "lower",
        "goal": "athena below it in the same run",
        "reference": "direct calls over a kept connection in the same rounds, one after another",
        "rounds": ROUNDS,
        "machine": machine(),
        "details": {
            "gateway": "tensorzero",
            "added_p50_us": median(added("tensorzero", "p50")),
            "athena_added_p50_us": median(added("athena", "p50")),
            "athena_added_p99_us": median(added("athena", "p99")),
            "single_flight_calls": calls,
        },
    }, indent=2))


if __name__ == "__main__":
    home = Home()
    python = home.python("tensorzero", "tensorzero") / "python"
    # In the environment that has it; the scripts beside this one are found all the same.
    if os.path.realpath(sys.prefix) != os.path.realpath(python.parents[1]):
        os.execv(python, [str(python), *sys.argv])
    main(home)
