// One MCP client of an official TypeScript SDK, driven by JSON lines: a request in, an answer out.
// Arguments: the SDK's major version, the era ("modern" or "legacy"), where the server is (JSON).
import { createInterface } from "node:readline";

const [sdk, era, target] = process.argv.slice(2);
const where = JSON.parse(target);
const information = { name: `ts-sdk-${sdk}`, version: "1" };
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
  const client = new Client(information, { versionNegotiation: { mode } });
  client.setNotificationHandler("notifications/resources/updated", updated);
  const transport = where.url
    ? new StreamableHTTPClientTransport(new URL(where.url))
    : new StdioClientTransport({ ...where, stderr: "ignore" });
  await client.connect(transport);
  return {
    client,
    version: client.getNegotiatedProtocolVersion(),
    callTool: (parameters, options) => client.callTool(parameters, options),
    watch: (uri) =>
      era === "modern"
        ? client.listen({ resourceSubscriptions: [uri] })
        : client.subscribeResource({ uri }),
  };
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
await client.close();
process.exit(0);
