"use strict";
const $ = (id) => document.getElementById(id);
const KEPT = "ktrdr-token";
const TERMINAL = new Set(["completed", "failed", "cancelled"]);
const CURVE_MS = 100, LIST_ROWS = 1000, LONG_CELL = 40;
const cards = new Map();
let token = sessionStorage.getItem(KEPT), sending = false, again = false;

async function call(path, body, accept = "application/json") {
  const headers = { Accept: accept };
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const answer = await fetch(path, {
    method: body === undefined ? "GET" : "POST", headers, cache: "no-store",
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  if (answer.status === 401) { lock(); throw new Error("The token is missing or wrong."); }
  if (!answer.ok) {
    const { error } = await answer.json();
    throw new Error(`${error.message} ${error.hint}`);
  }
  return accept === "application/json" ? answer.json() : answer;
}
function lock() {
  token = null; sessionStorage.removeItem(KEPT);
  $("main").hidden = true; $("enter").hidden = false; say("Not signed in."); $("token").focus();
}
function say(words, bad = false) {
  $("state").textContent = words; $("state").className = bad ? "bad" : "soft";
}
function element(tag, text, more = {}) {
  const made = document.createElement(tag);
  if (text !== undefined && text !== null) made.textContent = text;
  return Object.assign(made, more);
}
function button(text, act, label) {
  const made = element("button", text, { type: "button" });
  made.addEventListener("click", () => act().catch((error) => say(error.message, true)));
  if (label) made.setAttribute("aria-label", label);
  return made;
}
function table(place, heads, rows, empty) {
  if (!rows.length) return place.replaceChildren(element("p", empty, { className: "soft" }));
  const whole = element("table"), head = element("tr"), body = element("tbody");
  for (const each of heads) head.append(element("th", each, { scope: "col" }));
  for (const cells of rows) {
    const row = element("tr");
    for (const each of cells) {
      const cell = element("td");
      if (typeof each === "string" && each.length > LONG_CELL) cell.className = "words";
      cell.append(...(Array.isArray(each) ? each : [each ?? ""]));
      row.append(cell);
    }
    body.append(row);
  }
  const top = element("thead");
  top.append(head); whole.append(top, body);
  const wide = element("div", undefined, { className: "wide", tabIndex: 0 });
  wide.setAttribute("role", "group"); wide.setAttribute("aria-label", "Table");
  wide.append(whole); place.replaceChildren(wide);
}
const day = (text) => (text ?? "").slice(0, 16).replace("T", " ");
const share = (value) => (value === null ? "" : `${(value * 100).toFixed(1)} %`);

async function report(id) {
  const answer = await call(`/training/${encodeURIComponent(id)}/report`, undefined, "text/html");
  const address = URL.createObjectURL(new Blob([await answer.text()], { type: "text/html" }));
  const opened = window.open(address, "_blank");
  if (!opened) say("The browser kept the report from opening; allow pop-ups here.", true);
  setTimeout(() => URL.revokeObjectURL(address), 60000);
}
function ask(question, wantsName) {
  $("question").textContent = question;
  $("answer-line").hidden = !wantsName;
  $("answer").required = wantsName; $("answer").value = "";
  const dialog = $("ask");
  dialog.showModal();
  return new Promise((done) => dialog.addEventListener("close", () => {
    done(dialog.returnValue === "yes" ? $("answer").value || true : null);
  }, { once: true }));
}
async function cancel(id) {
  if (!(await ask(`Stop ${id} for good? What it has so far is lost.`, false))) return;
  say((await call(`/training/${encodeURIComponent(id)}/cancel`, {})).message);
  refresh();
}
async function save(id) {
  const name = await ask(`Save the model of ${id}. Lower case letters, digits, _ and -.`, true);
  if (typeof name !== "string") return;
  const kept = await call("/models/save", { task_id: id, model_name: name });
  say(`Saved as ${kept.model_name}, version ${kept.version}.`);
  refresh();
}

function card(status) {
  let found = cards.get(status.task_id);
  if (!found) {
    const root = element("article"), title = element("h3", status.task_id);
    const line = element("p"), curve = element("div"), bar = element("progress", undefined, { max: 100 });
    bar.setAttribute("aria-label", `Progress of ${status.task_id}`);
    root.append(title, bar, line, curve, button("Cancel", () => cancel(status.task_id), `Cancel ${status.task_id}`));
    $("running").append(root);
    found = { root, line, bar, curve, drawn: 0, timer: null };
    cards.set(status.task_id, found);
  }
  return found;
}
function count() {
  $("no-running").hidden = cards.size > 0; $("key").hidden = !cards.size;
}
async function draw(id, found) {
  found.timer = null; found.drawn = performance.now();
  const answer = await call(`/training/${encodeURIComponent(id)}/curve`, undefined, "image/svg+xml");
  const parsed = new DOMParser().parseFromString(await answer.text(), "image/svg+xml");
  if (parsed.documentElement.localName === "svg") {
    found.curve.replaceChildren(document.importNode(parsed.documentElement, true));
    found.root.dataset.epoch = found.epoch; found.root.dataset.shown = performance.now() - found.came;
  }
}
function show(status) {
  if (TERMINAL.has(status.status)) {
    cards.get(status.task_id)?.root.remove(); cards.delete(status.task_id);
    count();
    return refresh();
  }
  if (status.status !== "training") return;
  const found = card(status), now = status.current_metrics;
  found.came = performance.now(); found.epoch = status.current_epoch;
  found.bar.value = status.progress;
  found.line.textContent = `${status.symbol} ${status.timeframe}, epoch ${status.current_epoch} of ${status.total_epochs}`
    + (now ? `, validation loss ${now.val_loss.toFixed(4)}, accuracy ${share(now.val_accuracy)}` : "")
    + (status.alarm ? `. ${status.alarm}` : "");
  count();
  const wait = Math.max(0, CURVE_MS * Math.max(1, cards.size / 2) - (performance.now() - found.drawn));
  if (!found.timer) {
    found.timer = setTimeout(() => draw(status.task_id, found).catch(() => {}), wait);
  }
}

async function refresh() {
  if (sending) { again = true; return; }
  sending = true;
  try {
    const [tasks, models] = await Promise.all([call(`/training?limit=${LIST_ROWS}`), call("/models?limit=100")]);
    const waiting = tasks.tasks.filter((task) => task.status === "pending").length;
    $("queue").textContent = waiting ? `${waiting} waiting in the queue.` : "";
    table($("tasks"), ["", "task", "status", "series", "strategy", "validation", "started", "differs"],
      tasks.tasks.map((task) => [actions(task), task.task_id,
        task.error_code ? `${task.status} (${task.error_code})` : task.status,
        `${task.symbol} ${task.timeframe}`, task.strategy, share(task.val_accuracy),
        day(task.created_at), task.differs]),
      "No training yet. Start one with: ktrdr-mcp train AAPL 1h");
    table($("models"), ["model", "version", "series", "test", "saved", "description"],
      models.models.map((one) => [one.model_name, String(one.version), `${one.symbol} ${one.timeframe}`,
        share(one.test_accuracy), day(one.created_at), one.description]),
      "No model is saved. Save one from a completed task.");
    await workers();
  } catch (error) { say(error.message, true); }
  sending = false;
  if (again) { again = false; refresh(); }
}
function actions(task) {
  if (task.task_id.startsWith("fetch_")) {
    const runs = !TERMINAL.has(task.status);
    return runs ? [button("Cancel", () => cancel(task.task_id), `Cancel ${task.task_id}`)] : [""];
  }
  if (task.status === "completed") {
    return [button("Report", () => report(task.task_id), `Report of ${task.task_id}`), " ",
      button("Save", () => save(task.task_id), `Save ${task.task_id}`)];
  }
  if (task.status === "failed" || task.status === "cancelled") {
    return [button("Report", () => report(task.task_id), `Report of ${task.task_id}`)];
  }
  return [button("Cancel", () => cancel(task.task_id), `Cancel ${task.task_id}`)];
}
async function workers() {
  const found = await call("/lab/workers").catch(() => ({ workers: [] }));
  if (!found.workers.length) return $("workers").replaceChildren();
  table($("workers"), ["worker", "task", "memory", "since"], found.workers.map((one) => [
    String(one.pid), one.task ?? "idle", one.memory_bytes ? `${(one.memory_bytes / 1e6).toFixed(0)} MB` : "", day(one.since)]), "");
}
async function series() {
  const found = await call("/data");
  table($("series"), ["series", "bars", "from", "to", "source", "notes"], found.series.map((one) => [
    `${one.symbol} ${one.timeframe}`, one.bars.toLocaleString("en"), day(one.first_bar), day(one.last_bar),
    one.source, one.defects ?? one.notes.join(" ")]), "No bars. Put CSV or Parquet files into data/.");
}
async function verdicts() {
  const found = await call("/research?limit=50");
  table($("verdicts"), ["task", "series", "strategy", "trial", "direction, trading", "note"], found.trials.map((one) => [
    one.task_id, `${one.symbol} ${one.timeframe}`, one.strategy,
    one.trial ? `trial ${one.trial} on this window` : "", one.verdict, one.note ?? ""]), "Nothing was tried yet.");
}

async function follow() {
  for (;;) {
    try {
      const answer = await call("/events", undefined, "text/event-stream");
      say("Live.");
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        const blocks = (rest + value).split("\n\n");
        rest = blocks.pop();
        for (const block of blocks) {
          const data = block.split("\n").find((line) => line.startsWith("data: "));
          if (block.startsWith("event: tasks")) refresh();
          else if (data) show(JSON.parse(data.slice(6)));
        }
      }
      say("The server has closed the stream; trying again.", true);
    } catch (error) {
      if (!$("enter").hidden) return;
      say(`The server does not answer; trying again. ${error.message}`, true);
    }
    await new Promise((done) => setTimeout(done, 2000));
  }
}
async function begin() {
  $("enter").hidden = true; $("main").hidden = false;
  await refresh();
  if (!$("enter").hidden) return;
  series().catch((error) => say(error.message, true));
  follow();
}
$("enter").addEventListener("submit", (event) => {
  event.preventDefault();
  token = $("token").value.trim(); $("token").value = "";
  sessionStorage.setItem(KEPT, token); begin();
});
$("show-verdicts").addEventListener("click", () => verdicts().catch((error) => say(error.message, true)));
(async () => {
  const code = new URLSearchParams(location.hash.slice(1)).get("code");
  if (code) {
    history.replaceState(null, "", location.pathname);
    try {
      token = (await call("/page/token", { code })).token;
      sessionStorage.setItem(KEPT, token);
    } catch (error) { say(error.message, true); }
  }
  begin();
})();
