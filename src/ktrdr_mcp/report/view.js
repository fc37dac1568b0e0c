"use strict";
const $ = (id) => document.getElementById(id);
const PROTOCOL = "2026-01-26", TOOL = "show_training";
const TERMINAL = new Set(["completed", "failed", "cancelled"]);
const POLL_MS = 1500, MOST_MS = 30000;
const waiting = new Map();
let sent = 0, task = null, wait_ms = POLL_MS, closed = false, timer;

function post(message) { parent.postMessage({ jsonrpc: "2.0", ...message }, "*"); }
function ask(method, params) {
  const id = ++sent;
  return new Promise((resolve, reject) => {
    waiting.set(id, { resolve, reject }); post({ id, method, params });
  });
}
function say(words, bad = false) {
  $("state").textContent = words; $("state").className = bad ? "bad" : "soft";
}
function show({ task: reply, drawing }) {
  $("name").textContent = `${reply.symbol} ${reply.timeframe}`;
  $("progress").hidden = TERMINAL.has(reply.status); $("progress").value = reply.progress;
  const loss = reply.val_loss === null ? "" : `, validation loss ${reply.val_loss.toPrecision(4)}`;
  const epochs = `epoch ${reply.current_epoch} of ${reply.total_epochs}`;
  say(`${reply.status}, ${epochs}${loss}`, reply.status === "failed");
  // made by the server, which shows every text from outside as text
  if (typeof drawing === "string") $("drawing").innerHTML = drawing;
}
async function poll() {
  if (closed) return;
  try {
    if (!document.hidden) {
      const result = await ask("tools/call", { name: TOOL, arguments: { task_id: task, draw: true } });
      if (closed) return;
      if (result.isError) return say(result.content?.[0]?.text ?? "The task cannot be shown.", true);
      show(result.structuredContent);
      if (TERMINAL.has(result.structuredContent.task.status)) return;
    }
    wait_ms = POLL_MS;
  } catch (error) {
    say(`The host does not answer: ${error.message}`, true);
    wait_ms = Math.min(2 * wait_ms, MOST_MS);
  }
  timer = setTimeout(poll, wait_ms);
}
function follow(id) {
  if (typeof id !== "string" || id === task) return;
  task = id; clearTimeout(timer); poll();
}
function dress(context) {
  const theme = context?.theme;
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
}
function answer({ id, method, params }) {
  if (method === "ui/notifications/tool-input") follow(params?.arguments?.task_id);
  else if (method === "ui/notifications/tool-result") {
    if (params?.isError) say(params.content?.[0]?.text ?? "The task cannot be shown.", true);
    else follow(params?.structuredContent?.task?.task_id);
  } else if (method === "ui/notifications/host-context-changed") dress(params);
  else if (method === "ui/resource-teardown") {
    closed = true; clearTimeout(timer); post({ id, result: {} });
  } else if (method === "ping") post({ id, result: {} });
  else if (id !== undefined) post({ id, error: { code: -32601, message: "Method not found" } });
}
addEventListener("message", ({ source, data }) => {
  if (source !== parent || data?.jsonrpc !== "2.0") return;
  if (data.method) return answer(data);
  const asked = waiting.get(data.id);
  waiting.delete(data.id);
  if (data.error) asked?.reject(new Error(data.error.message));
  else asked?.resolve(data.result);
});
ask("ui/initialize", {
  protocolVersion: PROTOCOL, appInfo: { name: "ktrdr-mcp", version: "1" }, appCapabilities: {},
}).then((host) => {
  dress(host.hostContext);
  post({ method: "ui/notifications/initialized" });
  new ResizeObserver(() => post({
    method: "ui/notifications/size-changed",
    params: { height: Math.ceil(document.documentElement.getBoundingClientRect().height) },
  })).observe(document.documentElement);
}, (error) => say(error.message, true));
