// A host of MCP Apps in a page: the official bridge between a view in a frame and this server.
import {
  AppBridge, getToolUiResourceUri, PostMessageTransport,
} from "@modelcontextprotocol/ext-apps/app-bridge";
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";

const TOOL = "show_training";
const APPS = { extensions: { "io.modelcontextprotocol/ui": { mimeTypes: ["text/html;profile=mcp-app"] } } };
const host = { name: "a-host", version: "1" };

globalThis.showTraining = async ({ token, taskId, theme }) => {
  const client = new Client(host, { capabilities: APPS });
  await client.connect(new StreamableHTTPClientTransport(new URL("/mcp", location.href), {
    requestInit: { headers: { Authorization: `Bearer ${token}` } },
  }));
  const tool = (await client.listTools()).tools.find(({ name }) => name === TOOL);
  const { contents: [view] } = await client.readResource({ uri: getToolUiResourceUri(tool) });
  const frame = document.createElement("iframe");
  frame.sandbox.add("allow-scripts");
  frame.style = "width: 100%; border: 0";
  document.body.append(frame);
  const bridge = new AppBridge(client, host, { serverTools: {} }, { hostContext: { theme } });
  const given = { task_id: taskId };
  bridge.addEventListener("initialized", async () => {
    await bridge.sendToolInput({ arguments: given });
    await bridge.sendToolResult(await client.callTool({ name: TOOL, arguments: given }));
  });
  bridge.addEventListener("sizechange", ({ height }) => { frame.style.height = `${height}px`; });
  await bridge.connect(new PostMessageTransport(frame.contentWindow, frame.contentWindow));
  frame.srcdoc = view.text;
  globalThis.setTheme = (changed) => bridge.setHostContext({ theme: changed });
  globalThis.endView = () => bridge.teardownResource({});
};
