"use strict";
// Everything in `data` may have been written by something hostile: it is only ever set as text.
const data = JSON.parse(document.getElementById("data").textContent);
const STAGES = data.stages, PAGE = 100;
const NAMES = { queue: "Queue", create: "Create", setup: "Set-up", model: "Model", tools: "Tools", run: "Run", collect: "Collect", verify: "Verify", remove: "Remove" };
const ENDS = [["all", "All"], ["completed", "Completed"], ["task", "Task failed"], ["infra", "Infrastructure"], ["setup", "Configuration"], ["cancelled", "Cancelled"], ["open", "Not finished"]];
const RANKS = ["setup", "task", "infra", "cancelled", "open", "completed"];
const LOOKS = { completed: ["good", "✓"], task: ["bad", "✕"], infra: ["infra", "⚡\uFE0E"], setup: ["bad", "!"], cancelled: ["calm", "–"], open: ["calm", "…"] };
const $ = (id) => document.getElementById(id);

function make(tag, options = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) {
    if (name === "class") node.className = value;
    else if (name === "text") node.textContent = value;
    else if (name === "style") for (const [key, each] of Object.entries(value)) node.style.setProperty(key, each);
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

function drawing(tag, attributes, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function duration(seconds) {
  if (seconds < 0.0005) return "0 s";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`;
  const whole = Math.round(seconds), hours = Math.floor(whole / 3600), minutes = Math.floor(whole / 60) % 60;
  if (hours >= 48) return `${Math.floor(hours / 24)} d ${hours % 24} h`;
  return hours ? `${hours} h ${minutes} min` : `${minutes} min ${whole % 60} s`;
}

const money = (dollars) => `$${dollars.toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: dollars < 1 ? 4 : 2 })}`;
const count = (number, one, many) => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;

function endOf(status) {
  if (status === "completed" || status === "cancelled") return status;
  if (status === "pending" || status === "running") return "open";
  if (status.startsWith("infra.")) return "infra";
  return status.startsWith("task.") || status === "budget" || status === "poison" ? "task" : "setup";
}

const tasks = data.tasks.map(([key, status, attempts, leftOut, position]) => {
  const made = attempts.map(([number, state, fault, begin, end, spent, cost, message]) => ({ number, state, fault, begin, end, spent, message, cost }));
  const last = made[made.length - 1];
  return {
    key, status, position, leftOut, end: endOf(status), attempts: made,
    began: made.length ? made[0].begin : Infinity,
    ended: last ? last.end : 0,
    seconds: made.reduce((sum, each) => sum + each.end - each.begin, 0),
    queue: made.reduce((sum, each) => sum + (each.spent[0] || 0), 0),
    cost: made.reduce((sum, each) => sum + each.cost, 0),
    text: `${key} ${last ? last.message : ""}`.toLowerCase(),
  };
});

// ---------------------------------------------------------------- the head

function showHead() {
  const began = new Date(data.began * 1000);
  const about = [data.began ? began.toLocaleString("en", { dateStyle: "long", timeStyle: "short" }) : "", data.work, data.backend, data.image, `Paddock ${data.version}`, data.commit ? `commit ${data.commit.slice(0, 10)}` : ""];
  $("about").textContent = about.filter(Boolean).join(" · ");
  const verdict = $("verdict");
  verdict.classList.add(data.exit === 0 ? "good" : data.exit === 1 ? "bad" : data.exit === null ? "calm" : "infra");
  if (data.gave_up) verdict.append(make("span", { text: data.gave_up }));
  const sums = Object.fromEntries(ENDS.map(([name]) => [name, 0]));
  for (const [status, number] of Object.entries(data.counts)) sums[endOf(status)] += number;
  sums.all = data.total;
  const paused = data.gaps.reduce((sum, [, seconds]) => sum + seconds, 0);
  const inside = STAGES.slice(1).reduce((sum, name) => sum + data.seconds[name], 0);
  const items = [
    [`${sums.completed.toLocaleString("en")} of ${data.total.toLocaleString("en")}`, "completed", sums.completed === data.total ? "good" : ""],
    [sums.task, "failed by themselves", sums.task ? "bad" : ""],
    [sums.infra, "by the infrastructure", sums.infra ? "infra" : ""],
    [sums.setup, "by the configuration", sums.setup ? "bad" : ""],
    [sums.cancelled + sums.open, "cancelled or not finished", ""],
    [data.attempts, data.attempts === 1 ? "attempt" : "attempts", ""],
    [duration(data.length), paused ? `and ${duration(paused)} stopped` : "from first to last", ""],
    [duration(inside), "in sandboxes", ""],
    [money(data.cost), "for models", ""],
  ];
  const always = new Set([0, 1, 2, 6, 7]);
  for (const [index, [value, label, look]] of items.entries()) {
    if (!always.has(index) && !Number.parseFloat(String(value).replace("$", ""))) continue;
    $("numbers").append(make("li", { class: look }, make("b", { text: typeof value === "number" ? value.toLocaleString("en") : value }), make("span", { class: "muted", text: label })));
  }
  return sums;
}

function showSpent() {
  const inside = STAGES.slice(1).reduce((sum, name) => sum + data.seconds[name], 0);
  const told = [];
  for (const name of STAGES) {
    const seconds = data.seconds[name];
    if (!seconds) continue;
    const share = name === "queue" || !inside ? "" : `${(100 * seconds / inside).toFixed(1)} %`;
    if (share) {
      $("spent").append(make("i", { class: `s-${name}`, title: `${NAMES[name]}: ${share}`, style: { flex: `${seconds} 1 0` } }));
      told.push(`${NAMES[name]} ${share}`);
    }
    $("legend").append(make("tr", {}, make("td", {}, make("span", { class: `dot s-${name}` }), NAMES[name]), make("td", { class: "number", text: duration(seconds) }), make("td", { class: "number", text: share })));
  }
  $("spent").setAttribute("aria-label", told.join(", ") || "nothing ran");
  $("spent").removeAttribute("aria-labelledby");
}

function showRunning() {
  const values = data.running, most = Math.max(1, data.most), wide = 600, high = 160;
  const average = values.length ? values.reduce((sum, each) => sum + each, 0) / values.length : 0;
  $("running-about").textContent = `At most ${data.most.toLocaleString("en")}, ${average.toFixed(1)} on average, over ${duration(data.length)}.`;
  const x = (index) => (index / values.length) * wide, y = (value) => high - (value / most) * high;
  const steps = values.map((value, index) => `L${x(index).toFixed(1)},${y(value).toFixed(1)}L${x(index + 1).toFixed(1)},${y(value).toFixed(1)}`).join("");
  const labels = [most, ...(most % 2 ? [] : [most / 2]), 0].map((value) => make("span", { text: value.toLocaleString("en"), style: { top: `${100 - (100 * value) / most}%` } }));
  $("running").append(make("div", { class: "scale", "aria-hidden": "true" }, ...labels));
  const svg = drawing("svg", { viewBox: `0 0 ${wide} ${high}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  for (const part of [0, 0.5, 1]) svg.append(drawing("line", { class: "grid", x1: 0, x2: wide, y1: high * part, y2: high * part }));
  svg.append(drawing("path", { class: "area", d: `M0,${high}${steps}L${wide},${high}Z` }), drawing("path", { class: "top", d: `M0,${high}${steps}L${wide},${high}` }));
  for (const [at] of data.gaps) svg.append(drawing("line", { class: "cut", x1: (at / data.length) * wide, x2: (at / data.length) * wide, y1: 0, y2: high }));
  const axis = make("div", { class: "axis", "aria-hidden": "true" });
  showTicks(axis, 0, data.length);
  $("running").append(svg, axis);
}

// ---------------------------------------------------------------- the rows

const state = { end: "all", page: 0, list: tasks, from: 0, to: data.length || 1, open: new Set() };

function chosen() {
  const words = $("find").value.trim().toLowerCase(), fault = $("fault").value, by = $("sort").value;
  const found = tasks.filter((task) => (state.end === "all" || task.end === state.end) && (!fault || task.status === fault) && (!words || task.text.includes(words)));
  const order = { failed: (a, b) => RANKS.indexOf(a.end) - RANKS.indexOf(b.end) || a.position - b.position, position: (a, b) => a.position - b.position, began: (a, b) => a.began - b.began, seconds: (a, b) => b.seconds - a.seconds, queue: (a, b) => b.queue - a.queue, cost: (a, b) => b.cost - a.cost, attempts: (a, b) => b.attempts.length + b.leftOut - a.attempts.length - a.leftOut }[by];
  return found.sort(order);
}

function update() {
  state.list = chosen();
  state.page = 0;
  showPage();
}

function showPage() {
  const first = state.page * PAGE, page = state.list.slice(first, first + PAGE), rows = $("rows");
  const ran = page.filter((task) => task.attempts.length);
  const fits = $("fit").checked && ran.length;
  state.from = fits ? Math.min(...ran.map((task) => task.began)) : 0;
  state.to = fits ? Math.max(...ran.map((task) => task.ended)) : data.length;
  if (!(state.to > state.from)) state.to = state.from + 1;
  showTicks($("axis"), state.from, state.to);
  state.ticks = ticksOf(state.from, state.to);
  rows.replaceChildren();
  for (const task of page) {
    rows.append(rowOf(task));
    if (state.open.has(task)) rows.append(detailOf(task));
  }
  const whole = state.list.length === data.total ? "" : ` (of ${data.total.toLocaleString("en")} in all)`;
  $("shown").textContent = page.length ? `${(first + 1).toLocaleString("en")}-${(first + page.length).toLocaleString("en")} of ${count(state.list.length, "task", "tasks")}${whole}` : "0 tasks";
  $("earlier").disabled = state.page === 0;
  $("later").disabled = first + PAGE >= state.list.length;
  $("none").hidden = page.length > 0;
}

const TICKS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200];

function ticksOf(from, to) {
  const rough = (to - from) / 6, step = TICKS.find((each) => each >= rough) || 86400 * Math.ceil(rough / 86400), ticks = [];
  for (let index = Math.ceil(from / step); index * step <= to; index += 1) ticks.push(index * step);
  return ticks;
}

function shortly(seconds) {
  if (seconds < 60) return `${Number(seconds.toFixed(3))} s`;
  const minutes = Math.floor(seconds / 60), rest = Math.round(seconds % 60);
  if (minutes < 60) return rest ? `${minutes}:${String(rest).padStart(2, "0")} min` : `${minutes} min`;
  return `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")} h`;
}

function showTicks(axis, from, to) {
  const ticks = ticksOf(from, to).map((at) => [at, (at - from) / (to - from)]).filter(([, where]) => where <= 0.97);
  axis.replaceChildren(...ticks.map(([at, where]) => make("span", { class: where < 0.03 ? "first" : "", text: at ? shortly(at) : "0", style: { left: `${100 * where}%` } })));
}

const place = (at) => (at - state.from) / (state.to - state.from);

function bar(kind, from, to, title) {
  const left = Math.max(0, place(from)), right = Math.min(1, place(to));
  if (right < 0 || left > 1) return "";
  return make("i", { class: kind, ...(title && { title }), style: { left: `${100 * left}%`, width: `${100 * Math.max(0, right - left)}%` } });
}

function barsOf(attempt) {
  const pieces = [], [queue = 0, ...others] = attempt.spent, ended = attempt.state === "accepted" && !attempt.fault;
  if (queue) pieces.push(bar("s-queue", attempt.begin - queue, attempt.begin, `queue ${duration(queue)}`));
  if (attempt.state === "lost") return [...pieces, bar("s-lost", attempt.begin, attempt.begin, `attempt ${attempt.number}: lost with its process`)];
  const sum = others.reduce((total, each) => total + each, 0), length = attempt.end - attempt.begin;
  if (!sum) return [...pieces, bar("s-unknown", attempt.begin, attempt.end, `attempt ${attempt.number}: ${attempt.state}`)];
  const scale = Math.min(1, length / sum);
  let at = attempt.begin;
  others.forEach((seconds, index) => {
    if (!seconds) return;
    const name = STAGES[index + 1];
    pieces.push(bar(`s-${name}${ended ? "" : " failed"}`, at, at + seconds * scale, `${NAMES[name]} ${duration(seconds)}`));
    at += seconds * scale;
  });
  return pieces;
}

function spoken(task) {
  const parts = task.attempts.map((attempt) => `attempt ${attempt.number}, ${attempt.fault || attempt.state}: ${STAGES.map((name, index) => [NAMES[name], attempt.spent[index]]).filter(([, seconds]) => seconds).map(([name, seconds]) => `${name} ${duration(seconds)}`).join(", ")}`);
  return parts.join("; ") || "did not begin";
}

function rowOf(task) {
  const [look, mark] = LOOKS[task.end], opened = state.open.has(task);
  const button = make("button", { type: "button", class: "key", "aria-expanded": String(opened), title: task.key }, make("bdi", { text: task.key }));
  button.addEventListener("click", () => toggle(task, button));
  const bars = make("div", { class: "bars", role: "img", "aria-label": spoken(task) }, ...state.ticks.map((at) => bar("tick", at, at, "")), ...data.gaps.map(([at, seconds]) => bar("gap", at, at, `nothing ran for ${duration(seconds)}`)), ...task.attempts.flatMap(barsOf));
  return make("tr", { class: "row" },
    make("td", {}, make("span", { class: `end ${look}`, title: task.status }, make("span", { "aria-hidden": "true", text: `${mark} ` }), task.status)),
    make("td", {}, button),
    make("td", { class: "number", text: String(task.attempts.length + task.leftOut) }),
    make("td", { class: "number", text: task.attempts.length ? duration(task.seconds) : "" }),
    make("td", {}, bars));
}

function toggle(task, button) {
  const row = button.closest("tr"), opening = !state.open.has(task);
  button.setAttribute("aria-expanded", String(opening));
  if (opening) {
    state.open.add(task);
    row.after(detailOf(task));
  } else {
    state.open.delete(task);
    row.nextElementSibling.remove();
  }
}

// ---------------------------------------------------------------- one task

function block(title, content, wide) {
  return make("div", { class: wide ? "wide" : "" }, make("h3", { text: title }), content);
}

function detailOf(task) {
  const found = Object.hasOwn(data.details, task.key) ? data.details[task.key] : null;
  const cell = make("td", { colspan: "5" }), blocks = make("div", { class: "blocks" });
  const last = task.attempts[task.attempts.length - 1], message = (found && found.message) || (last && last.message);
  if (message) cell.append(make("p", { class: "message", text: message }));
  blocks.append(block("Attempts", attemptsOf(task), true));
  if (!found) blocks.append(block("Output", make("p", { class: "muted", text: task.attempts.length ? "There was no room for it here; it is in the folder of the batch." : "It did not begin." })));
  else {
    const texts = (pairs) => pairs.filter(([name]) => found[name]).map(([name, title]) => block(title, make("pre", { text: found[name], tabindex: "0", "aria-label": title })));
    const given = [...texts([["task", "Task"], ["result", "Result"]]), ...(found.artifacts ? [block("Artifacts", artifactsOf(found))] : []), ...texts([["folder", "Folder with all of it"]])];
    const said = texts([["stdout", "stdout"], ["stderr", "stderr"], ["verify", "stdout of the verification"], ["verify_errors", "stderr of the verification"]]);
    blocks.append(make("div", { class: "stack" }, ...given));
    if (said.length) blocks.append(make("div", { class: "stack" }, ...said));
    if (found.trace) blocks.append(block("Trace", make("ol", { class: "steps" }, ...found.trace.map(stepOf)), true));
  }
  cell.append(blocks);
  return make("tr", { class: "detail" }, cell);
}

function attemptsOf(task) {
  const shown = STAGES.filter((_, index) => task.attempts.some((each) => each.spent[index]));
  const head = ["Attempt", "End", "Began at", ...shown.map((name) => NAMES[name]), "Cost", "Message"];
  const body = task.attempts.map((each) => make("tr", {},
    make("td", { text: String(each.number) }),
    make("td", { text: each.fault || each.state }),
    make("td", { text: duration(each.begin) }),
    ...shown.map((name) => make("td", { text: each.spent[STAGES.indexOf(name)] ? duration(each.spent[STAGES.indexOf(name)]) : "" })),
    make("td", { text: each.cost ? money(each.cost) : "" }),
    make("td", { class: "said", text: each.message })));
  const table = make("table", { class: "attempts" }, make("thead", {}, make("tr", {}, ...head.map((text) => make("th", { scope: "col", text })))), make("tbody", {}, ...body));
  const earlier = task.leftOut ? make("p", { class: "muted", text: `${count(task.leftOut, "attempt", "attempts")} before these` }) : "";
  return make("div", { class: "scroll" }, earlier, table);
}

function artifactsOf(found) {
  const lines = found.artifacts.map(([path, hash]) => `${hash.slice(0, 12)}  ${path}`);
  if (found.more_artifacts) lines.push(`and ${found.more_artifacts} more`);
  return make("pre", { text: lines.join("\n"), tabindex: "0", "aria-label": "Artifacts and the beginnings of their SHA-256" });
}

function stepOf(step) {
  const text = make("div", { class: "text", text: step.text || "" });
  if (step.result) text.append(make("span", { class: "result", text: step.result }));
  const known = ["model", "tool", "prompt", "answer", "note", "gap"].includes(step.kind) ? step.kind : "note";
  return make("li", { class: `${known}${step.failed ? " failed" : ""}` },
    make("span", { class: "muted", text: step.at === undefined ? "" : `+${duration(step.at)}` }),
    make("b", { text: step.title }), text,
    make("span", { class: "muted number", text: step.seconds === undefined ? "" : duration(step.seconds) }));
}

// ---------------------------------------------------------------- the filters

function showFilters(sums) {
  for (const [name, label] of ENDS) {
    if (name !== "all" && !sums[name]) continue;
    const input = make("input", { type: "radio", name: "end", value: name });
    input.checked = name === "all";
    input.addEventListener("change", () => { state.end = name; update(); });
    $("ends").append(make("label", {}, input, make("span", { text: `${label} ${sums[name].toLocaleString("en")}` })));
  }
  $("fault").append(make("option", { value: "", text: "any" }));
  for (const status of Object.keys(data.counts).sort())
    if (!["completed", "open"].includes(endOf(status))) $("fault").append(make("option", { value: status, text: status }));
  for (const id of ["find", "fault", "sort"]) $(id).addEventListener("input", update);
  $("fit").addEventListener("change", showPage);
  $("filters").addEventListener("submit", (event) => event.preventDefault());
  const turn = (by) => () => { state.page += by; showPage(); };
  $("earlier").addEventListener("click", turn(-1));
  $("later").addEventListener("click", turn(1));
}

function showLinked() {
  const named = location.hash.slice(1), task = named && tasks.find((each) => encodeURIComponent(each.key) === named || each.key === named);
  if (!task) return;
  $("find").value = task.key;
  state.open.add(task);
}

const left = data.total - tasks.length;
$("left-out").textContent = left > 0 ? `${count(left, "task is", "tasks are")} not on this page, but counted; all are in results.jsonl.` : "";
showFilters(showHead());
showSpent();
showRunning();
showLinked();
update();
addEventListener("hashchange", () => { showLinked(); update(); });
document.documentElement.dataset.ready = "yes";
