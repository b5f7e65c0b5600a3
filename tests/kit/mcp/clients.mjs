// Calls our tools with clients as they come from npm: `node clients.mjs NAME BASE SANDBOX_ID`, where they are installed.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [name, base, sandbox] = process.argv.slice(2);
const at = createRequire(`${process.cwd()}/`);
const load = (what) => import(pathToFileURL(at.resolve(what)));
const hello = { name: "process_run", arguments: { sandbox_id: sandbox, command: "echo", args: ["Hello, World!"] } };

async function use(Client, Transport, options) {
  const client = new Client({ name: "test", version: "1" }, options);
  await client.connect(new Transport(new URL(`${base}/mcp/full`)));
  const { tools } = await client.listTools();
  const answer = await client.callTool(hello);
  console.log(tools.length, JSON.stringify(answer.structuredContent.stdout));
  await client.close();
}

// The program is `base`; its variables are ours.
async function speak(Client, Transport, options) {
  const client = new Client({ name: "test", version: "1" }, options);
  const env = Object.fromEntries(Object.entries(process.env).filter(([key]) => key.startsWith("WORKSPACE_")));
  await client.connect(new Transport({ command: base, env }));
  const { tools } = await client.listTools();
  const own = { name: "process_run", arguments: { command: "sh", args: ["-c", "echo >>ran; wc -l <ran"] } };
  const counts = [];
  for (let n = 0; n < 2; n++) counts.push((await client.callTool(own)).structuredContent.stdout.trim());
  console.log(tools.length, ...counts);
  await client.close();
}

if (name === "stdio-sdk") {
  const { Client } = await load("@modelcontextprotocol/sdk/client/index.js");
  const { StdioClientTransport } = await load("@modelcontextprotocol/sdk/client/stdio.js");
  await speak(Client, StdioClientTransport);
} else if (name.startsWith("stdio-")) {
  const { Client } = await load("@modelcontextprotocol/client");
  const { StdioClientTransport } = await load("@modelcontextprotocol/client/stdio");
  await speak(Client, StdioClientTransport, name === "stdio-auto" ? { versionNegotiation: { mode: "auto" } } : undefined);
} else if (name === "resources") {
  const { Client } = await load("@modelcontextprotocol/sdk/client/index.js");
  const { StreamableHTTPClientTransport } = await load("@modelcontextprotocol/sdk/client/streamableHttp.js");
  const { ResourceUpdatedNotificationSchema } = await load("@modelcontextprotocol/sdk/types.js");
  const client = new Client({ name: "test", version: "1" });
  const heard = new Promise((told) => {
    client.setNotificationHandler(ResourceUpdatedNotificationSchema, ({ params }) => told(params.uri));
  });
  await client.connect(new StreamableHTTPClientTransport(new URL(`${base}/mcp/full`)));
  const { resources } = await client.listResources();
  const uri = `${resources[0].uri}note`;
  await client.subscribeResource({ uri });
  await client.callTool({ name: "file_write", arguments: { sandbox_id: sandbox, path: "note", content: "by node" } });
  const told = await heard;
  const { contents } = await client.readResource({ uri });
  console.log(told === uri, contents[0].text);
  await client.close();
} else if (name === "sdk") {
  const { Client } = await load("@modelcontextprotocol/sdk/client/index.js");
  const { StreamableHTTPClientTransport } = await load("@modelcontextprotocol/sdk/client/streamableHttp.js");
  await use(Client, StreamableHTTPClientTransport);
} else {
  const { Client, StreamableHTTPClientTransport } = await load("@modelcontextprotocol/client");
  await use(Client, StreamableHTTPClientTransport, name === "auto" ? { versionNegotiation: { mode: "auto" } } : undefined);
}
