"""Checks what `athena demo --json` printed against what the bundled data must give."""

import json
import sys

with open(sys.argv[1], encoding="utf-8") as file:
    demo = json.load(file)

STATES = {"ok", "breach", "critical", "not_enough_data", "no_series", "degenerate_input"}
NAMES = ["memory_query_p95", "llm_response", "firestore_writes", "cache_hit_rate", "agent_cycle", "api_response_p95"]
targets = {target["name"]: target for target in demo["targets"]}
checks = {
    "at least 30 cycles": demo["cycles"] >= 30,
    "no failed cycle": demo["failed_cycles"] == 0,
    "six targets": sorted(targets) == sorted(NAMES),
    "honest states": all(target["state"] in STATES for target in targets.values()),
    "samples or an honest state": all(
        target["samples"] > 0 or target["state"] in {"not_enough_data", "no_series"} for target in targets.values()
    ),
    "fewer documents than naive": 0 < demo["documents"]["written"] < demo["documents"]["naive"],
    "under 20 documents a minute": 0 < demo["documents_per_minute"] < 20,
    "a trace for every cycle": demo["traces"]["cycles"] == demo["cycles"],
    "no orphan span": demo["traces"]["orphans"] == 0,
    "fewer model calls than items": demo["upstream_calls"] < sum(demo["served"].values()),
}
for name, holds in checks.items():
    print(f"{'ok  ' if holds else 'FAIL'} {name}")
print(json.dumps(demo, indent=1))
sys.exit(0 if all(checks.values()) else 1)
