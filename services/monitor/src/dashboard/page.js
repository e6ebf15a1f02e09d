"use strict";

// Everything telemetry says is set as text: no string of it is ever read as markup.

const PERIOD = 3000;
const ROWS = 400;
const COLOURS = 7;
const WORDS = {
  ok: ["✓", "ok"],
  breach: ["▲", "breach"],
  critical: ["✕", "critical"],
  not_enough_data: ["…", "not enough data"],
  no_series: ["∅", "no series"],
  degenerate_input: ["≡", "degenerate input"],
};

const $ = (id) => document.getElementById(id);
let shown = null; // id of the trace on show
let failures = 0;

function make(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

function draw(tag, attributes) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}

function figure(value) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "0";
  const digits = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : Math.abs(value) >= 1 ? 2 : 3;
  return Math.abs(value) < 0.001 ? value.toExponential(1) : value.toFixed(digits);
}

function took(ms) {
  if (ms >= 60000) return (ms / 60000).toFixed(1) + " min";
  if (ms >= 1000) return (ms / 1000).toFixed(2) + " s";
  if (ms >= 1) return ms.toFixed(ms >= 100 ? 0 : 1) + " ms";
  return Math.round(ms * 1000) + " µs";
}

function span(seconds) {
  if (seconds >= 3600) return +(seconds / 3600).toFixed(1) + " h";
  if (seconds >= 60) return +(seconds / 60).toFixed(1) + " min";
  return Math.round(seconds) + " s";
}

function moment(ms) {
  const date = new Date(ms);
  const time = make("time", { datetime: date.toISOString(), title: date.toISOString() });
  time.textContent = date.toISOString().slice(11, 23);
  return time;
}

const unit = (name) => (name === "percent" ? "%" : name === "documents/min" ? "/ min" : name);

function short(name) {
  // `athena.memory.v1.MemoryService/Recall` is known by its last two words; the title keeps the rest.
  const call = /^[\w.]*?(\w+)\/(\w+)$/.exec(name || "");
  return call ? call[1] + "/" + call[2] : name || "";
}

// ---- targets ----

function gauge(target) {
  const high = Math.max(target.target, target.critical);
  const scale = target.unit === "percent" ? 100 : Math.max(high * 1.25, Math.min(target.value || 0, high * 2.5));
  const place = (value) => (100 * Math.min(Math.max(value, 0), scale)) / scale;
  const picture = draw("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" });
  picture.append(draw("rect", { x: 0, y: 3, width: 100, height: 4, rx: 1, fill: "var(--track)" }));
  if (target.value !== null) {
    const judged = { ok: "ok", breach: "breach", critical: "critical", degenerate_input: "odd" }[target.state] || "none";
    picture.append(draw("rect", { x: 0, y: 3, width: place(target.value), height: 4, rx: 1, fill: `var(--${judged})` }));
  }
  for (const [value, colour] of [[target.target, "ok"], [target.critical, "critical"]]) {
    picture.append(draw("rect", { x: place(value) - 0.4, y: 0, width: 0.8, height: 10, fill: `var(--${colour})` }));
  }
  const [good, bad] = target.lower_is_better ? ["<", ">"] : [">", "<"];
  const words = `${good} ${target.target} · critical ${bad} ${target.critical} ${unit(target.unit)}`;
  return make("div", { class: "gauge" }, picture, make("span", { class: "bounds" }, words));
}

function targetRow(target) {
  const [sign, word] = WORDS[target.state] || ["?", target.state];
  const state = make("span", { class: "state " + target.state }, make("span", { "aria-hidden": "true" }, sign + " "), word);
  const value = make("span", { class: "value" }, figure(target.value));
  const samples = target.samples + (target.samples < target.least_samples ? " of " + target.least_samples : "");
  const beside = make("div", { class: "chips" });
  const order = ["pattern", "exact", "semantic", "coalesced"];
  const parts = Object.entries(target.parts).sort((one, two) => order.indexOf(one[0]) - order.indexOf(two[0]));
  for (const [name, part] of parts) {
    beside.append(make("span", { class: "chip" }, `${name} ${figure(part)}${target.unit === "percent" ? " %" : ""}`));
  }
  const notes = target.notes.filter((note) => note !== "agent clock");
  for (const note of notes) beside.append(make("span", { class: "quiet" }, note));
  return make(
    "tr",
    {},
    make("th", { scope: "row", title: target.name }, target.label),
    make("td", {}, state),
    make("td", { class: "number", "data-label": "value" }, value, " ", make("span", { class: "unit" }, target.value === null ? "" : unit(target.unit))),
    make("td", {}, gauge(target)),
    make("td", { class: "number", "data-label": "samples" }, samples),
    make("td", { class: "number", "data-label": "window", title: target.agent_clock ? "value on the agent clock" : "value in wall time" }, span(target.window_seconds)),
    make("td", {}, beside),
  );
}

function showTargets(answer) {
  document.querySelector("#targets tbody").replaceChildren(...answer.targets.map(targetRow));
  $("clock").textContent = "agent clock " + new Date(answer.now_ms).toISOString().slice(0, 19).replace("T", " ");
  const counts = answer.intake;
  const parts = [`${counts.points} points in ${counts.series} series`, `${counts.spans} spans`, `${counts.logs} log records counted`];
  const line = make("span", {}, "taken in: " + parts.join(" · "));
  const refused = [];
  if (counts.points_refused) refused.push(`${counts.points_refused} points refused`);
  if (counts.spans_refused) refused.push(`${counts.spans_refused} spans refused`);
  $("intake").replaceChildren(line, ...refused.map((words) => make("span", { class: "bad" }, " · " + words)));
}

// ---- traces ----

function empty(columns, words) {
  return make("tr", {}, make("td", { class: "empty", colspan: columns }, words));
}

function traceRow(trace) {
  const name = trace.root_name === null ? "root not held" : short(trace.root_name);
  const link = make("a", { href: "#trace=" + trace.trace_id, title: trace.root_name || "" }, name);
  const services = make("div", { class: "chips" }, ...trace.services.map((service) => make("span", { class: "chip" }, service)));
  const notes = [];
  if (trace.failed) notes.push(`${trace.failed} failed`);
  if (trace.orphans) notes.push(`${trace.orphans} orphaned`);
  return make(
    "tr",
    { class: trace.trace_id === shown ? "chosen" : null },
    make("td", {}, link),
    make("td", { class: "number" }, took(trace.duration_ms)),
    make("td", { class: "number" }, String(trace.spans)),
    make("td", {}, services),
    make("td", { class: "bad" }, notes.join(", ")),
    make("td", { class: "number" }, moment(trace.start_ms)),
  );
}

function showTraces(answer) {
  const rows = answer.traces.map(traceRow);
  document.querySelector("#traces tbody").replaceChildren(...(rows.length ? rows : [empty(6, "no trace yet")]));
  $("held").textContent = `${answer.traces.length} shown of ${answer.held} held` + (answer.dropped ? ` · ${answer.dropped} dropped to make room` : "");
  const known = new Set([...$("root-names").children].map((option) => option.value));
  for (const trace of answer.traces) {
    if (trace.root_name && !known.has(trace.root_name)) {
      known.add(trace.root_name);
      $("root-names").append(make("option", { value: trace.root_name }));
    }
  }
}

function showSlow(answer) {
  const rows = answer.operations.map((slow) =>
    make(
      "tr",
      {},
      make("td", {}, make("a", { href: "#trace=" + slow.trace_id, title: slow.name }, short(slow.name)), slow.failed ? make("span", { class: "bad" }, " failed") : null),
      make("td", {}, make("span", { class: "chip" }, slow.service)),
      make("td", { class: "number" }, took(slow.duration_ms)),
      make("td", { class: "number" }, took(slow.threshold_ms)),
      make("td", { class: "number" }, figure(slow.ratio) + " ×"),
      make("td", { class: "number" }, moment(slow.start_ms)),
    ),
  );
  document.querySelector("#slow tbody").replaceChildren(...(rows.length ? rows : [empty(6, "nothing passed its threshold")]));
}

// ---- one trace ----

function row(each, depth, total, colour) {
  const bar = make("i", { class: each.failed ? "failed" : null });
  bar.style.left = (100 * each.offset_ms) / total + "%";
  bar.style.width = `min(${(100 * each.duration_ms) / total}%, ${100 - (100 * each.offset_ms) / total}%)`;
  bar.style.background = colour;
  const name = make("span", { class: "name", title: `${each.service}: ${each.name}` }, make("span", { class: "dot" }), short(each.name));
  name.firstChild.style.background = colour;
  name.style.paddingLeft = Math.min(depth, 12) * 0.85 + "rem";
  if (each.failed) name.append(make("span", { class: "bad" }, " failed"));
  const summary = make("summary", {}, name, make("span", { class: "lane" }, bar), make("span", { class: "number" }, took(each.duration_ms)));
  const details = make("details", { class: "row" }, summary);
  // Thousands of spans: what nobody opens is not built.
  details.addEventListener("toggle", () => {
    if (details.children.length === 1) details.append(inside(each));
  });
  return details;
}

function inside(each) {
  const facts = { name: each.name, service: each.service, kind: each.kind, "begins after": took(each.offset_ms), "span id": each.span_id };
  if (each.parent_span_id) facts["parent id"] = each.parent_span_id;
  if (each.status_message) facts.status = each.status_message;
  const list = make("dl", {});
  for (const [key, value] of [...Object.entries(facts), ...Object.entries(each.attributes)]) {
    list.append(make("dt", {}, key), make("dd", {}, value));
  }
  return make("div", { class: "details" }, list);
}

function showTrace(answer) {
  const { summary, spans } = answer;
  const total = Math.max(summary.duration_ms, 0.001);
  const colours = new Map(summary.services.map((service, place) => [service, `var(--s${place % COLOURS})`]));
  const depths = new Map();
  for (const each of spans) depths.set(each.span_id, depths.has(each.parent_span_id) ? depths.get(each.parent_span_id) + 1 : 0);
  const facts = [took(summary.duration_ms), `${summary.spans} spans`, `${summary.orphans} orphaned`, `${summary.failed} failed`, summary.trace_id];
  $("trace-title").textContent = summary.root_name === null ? "Trace" : short(summary.root_name);
  $("trace-summary").textContent = facts.join(" · ");
  $("legend").replaceChildren(...summary.services.map((service) => {
    const dot = make("span", { class: "dot" });
    dot.style.background = colours.get(service);
    return make("li", {}, dot, service);
  }));
  const ticks = make("span", { class: "ticks", "aria-hidden": "true" });
  for (const share of [0, 0.25, 0.5, 0.75, 1]) {
    const tick = make("span", {}, took(total * share));
    tick.style.left = 100 * share + "%";
    ticks.append(tick);
  }
  const axis = make("div", { class: "axis" }, make("span", {}, "span"), ticks, make("span", { class: "number" }, "took"));
  const rows = (part) => part.map((each) => row(each, depths.get(each.span_id), total, colours.get(each.service)));
  $("waterfall").replaceChildren(axis, ...rows(spans.slice(0, ROWS)));
  const rest = spans.length - ROWS;
  $("more").hidden = rest <= 0;
  $("more").textContent = `Show ${rest} more spans`;
  $("more").onclick = () => {
    $("waterfall").append(...rows(spans.slice(ROWS)));
    $("more").hidden = true;
  };
  $("trace").hidden = false;
}

// ---- asking ----

async function ask(path) {
  const token = sessionStorage.getItem("token");
  const answer = await fetch(path, { headers: token ? { authorization: "Bearer " + token } : {} });
  if (answer.status === 401) {
    $("token-form").hidden = false;
    throw new Error("a bearer token is needed");
  }
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.error);
  $("token-form").hidden = true;
  return body;
}

function wanted() {
  const query = new URLSearchParams({ limit: 50 });
  if ($("root-name").value) query.set("root_name", $("root-name").value);
  if ($("min-ms").value) query.set("min_ms", $("min-ms").value);
  if ($("failed-only").checked) query.set("failed_only", "true");
  return "api/traces?" + query;
}

function say(on, words) {
  const live = $("live");
  // Told anew only when it changes: a screen reader speaks each change.
  if (live.textContent !== words) live.textContent = words;
  live.className = "live " + (on ? "on" : "off");
}

async function refresh() {
  try {
    const [targets, traces, slow] = await Promise.all([ask("api/targets"), ask(wanted()), ask("api/slow?limit=10")]);
    showTargets(targets);
    showTraces(traces);
    showSlow(slow);
    failures = 0;
    say(true, "live, every 3 s");
  } catch (error) {
    failures += 1;
    say(false, failures > 1 ? `no answer (${error.message})` : error.message);
  }
}

async function follow() {
  const found = /^#trace=([0-9a-f]{32})$/.exec(location.hash);
  shown = found ? found[1] : null;
  if (!shown) {
    $("trace").hidden = true;
    return;
  }
  try {
    showTrace(await ask("api/traces/" + shown));
    $("trace-title").focus({ preventScroll: true });
    $("trace").scrollIntoView({ block: "start" });
  } catch (error) {
    say(false, error.message);
  }
}

async function poll() {
  if (!document.hidden) await refresh();
  setTimeout(poll, PERIOD);
}

$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", $("token").value);
  refresh().then(follow);
});
$("filters").addEventListener("submit", (event) => event.preventDefault());
$("filters").addEventListener("input", () => refresh());
addEventListener("hashchange", () => follow().then(refresh));
follow();
poll();
