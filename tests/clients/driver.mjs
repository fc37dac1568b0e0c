// One MCP client of an official TypeScript SDK, driven by JSON lines: a request in, an answer out.
// Arguments: the SDK's major version, the era ("modern" or "legacy"), where the server is (JSON),
// and "tasks" if the client takes tasks, which only one of the modern era can.
import { createInterface } from "node:readline";

const [sdk, era, target, takesTasks] = process.argv.slice(2);
const where = JSON.parse(target);
const information = { name: `ts-sdk-${sdk}`, version: "1" };
const tasksExtension = "io.modelcontextprotocol/tasks";
const capabilities = takesTasks ? { extensions: { [tasksExtension]: {} } } : {};
const updates = [];
const waiting = [];

function updated(notification) {
  updates.push(notification.params.uri);
  waiting.splice(0).forEach((wake) => wake());
}

async function connectFirst() {
  const { Client } = await import("@modelcontextprotocol/sdk/client/index.js");
  const { StdioClientTransport } = await import("@modelcontextprotocol/sdk/client/stdio.js");
  const { StreamableHTTPClientTransport } = await import(
    "@modelcontextprotocol/sdk/client/streamableHttp.js"
  );
  const { ResourceUpdatedNotificationSchema } = await import("@modelcontextprotocol/sdk/types.js");
  const client = new Client(information);
  client.setNotificationHandler(ResourceUpdatedNotificationSchema, updated);
  const transport = where.url
    ? new StreamableHTTPClientTransport(new URL(where.url))
    : new StdioClientTransport({ ...where, stderr: "ignore" });
  await client.connect(transport);
  return {
    client,
    version: transport.protocolVersion ?? client.getNegotiatedProtocolVersion?.() ?? null,
    callTool: (parameters, options) => client.callTool(parameters, undefined, options),
    watch: (uri) => client.subscribeResource({ uri }),
  };
}

async function connectSecond() {
  const { Client, StreamableHTTPClientTransport } = await import("@modelcontextprotocol/client");
  const { StdioClientTransport } = await import("@modelcontextprotocol/client/stdio");
  const mode = era === "modern" ? { pin: "2026-07-28" } : "legacy";
  const client = new Client(information, { capabilities, versionNegotiation: { mode } });
  client.setNotificationHandler("notifications/resources/updated", updated);
  const transport = where.url
    ? new StreamableHTTPClientTransport(new URL(where.url))
    : new StdioClientTransport({ ...where, stderr: "ignore" });
  await client.connect(transport);
  return {
    client,
    version: client.getNegotiatedProtocolVersion(),
    tasks: takesTasks ? await openTasks(client, transport) : undefined,
    callTool: (parameters, options) => client.callTool(parameters, options),
    watch: (uri) =>
      era === "modern"
        ? client.listen({ resourceSubscriptions: [uri] })
        : client.subscribeResource({ uri }),
  };
}

// The SDK refuses answers that an extension defines, so these requests pass below it.
async function openTasks(client, transport) {
  const { createTaskSessionFromClient } = await import("@modelcontextprotocol/ext-tasks/client");
  const answered = new Map();
  const pass = transport.onmessage;
  transport.onmessage = (message, extra) => {
    const take = answered.get(message.id);
    if (take === undefined) return pass(message, extra);
    answered.delete(message.id);
    const { error, result } = message;
    take(error ? { kind: "error", error } : { kind: "result", result });
  };
  let count = 0;
  function rawDispatch({ method, params }) {
    const id = `task-${(count += 1)}`;
    return new Promise((resolve, reject) => {
      answered.set(id, resolve);
      transport.send({ jsonrpc: "2.0", id, method, params }).catch(reject);
    });
  }
  const protocolVersion = client.getNegotiatedProtocolVersion();
  const session = createTaskSessionFromClient(client, {
    endpointId: "driver",
    rawDispatch,
    v2RequestFraming: { protocolVersion, clientInfo: information, clientCapabilities: capabilities },
  });
  const prefix = "io.modelcontextprotocol";
  const envelope = {
    [`${prefix}/protocolVersion`]: protocolVersion,
    [`${prefix}/clientInfo`]: information,
    [`${prefix}/clientCapabilities`]: capabilities,
  };
  async function ask(method, parameters) {
    const answer = await rawDispatch({ method, params: { ...parameters, _meta: envelope } });
    if (answer.kind === "error") throw answer.error;
    return answer.result;
  }
  return { ask, session };
}

const connected = await (sdk === "1" ? connectFirst() : connectSecond());
const { client } = connected;

async function call({ name, arguments: given, progress, abort }) {
  const seen = [];
  const controller = new AbortController();
  const options = { timeout: 120_000 };
  if (progress || abort) {
    options.signal = controller.signal;
    options.onprogress = (report) => {
      seen.push(report);
      if (abort) controller.abort("enough");
    };
  }
  try {
    const result = await connected.callTool({ name, arguments: given }, options);
    return { content: result.structuredContent, isError: result.isError ?? false, progress: seen };
  } catch (error) {
    if (controller.signal.aborted) return { aborted: true, progress: seen };
    throw error;
  }
}

async function follow({ name, arguments: given }) {
  const seen = [];
  const execution = await connected.tasks.session.callTool(name, given);
  const { outcome } = await execution.settle({
    onEvent: (event) => {
      if (event.task) seen.push(event.task.raw);
    },
  });
  const result = outcome.result ?? {};
  return { seen, content: result.structuredContent, isError: result.isError ?? false };
}

const names = (items, field = "name") => items.map((item) => item[field]);
const operations = {
  about: async () => ({
    version: connected.version,
    server: client.getServerVersion(),
    capabilities: client.getServerCapabilities(),
  }),
  tools: async () => names((await client.listTools()).tools),
  prompts: async () => names((await client.listPrompts()).prompts),
  resources: async () => names((await client.listResources()).resources, "uri"),
  templates: async () =>
    names((await client.listResourceTemplates()).resourceTemplates, "uriTemplate"),
  call,
  follow,
  task: ({ method, parameters }) => connected.tasks.ask(method, parameters),
  read: async ({ uri }) => (await client.readResource({ uri })).contents[0].text,
  prompt: async ({ name, arguments: given }) =>
    (await client.getPrompt({ name, arguments: given })).messages[0].content.text,
  complete: async ({ reference, name, value }) =>
    (await client.complete({ ref: reference, argument: { name, value } })).completion.values,
  watch: async ({ uri }) => {
    await connected.watch(uri);
    return null;
  },
  update: async () => {
    while (updates.length === 0) await new Promise((wake) => waiting.push(wake));
    return updates.shift();
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { operation, ...parameters } = JSON.parse(line);
  let answer;
  try {
    answer = { value: await operations[operation](parameters) };
  } catch (error) {
    answer = { error: { code: error.code ?? null, message: String(error.message) } };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await connected.tasks?.session.close?.();
await client.close();
process.exit(0);
