"""Calls our tools with clients as they come from PyPI: `clients.py NAME BASE SANDBOX_ID`. Prints what it saw, a line each.
Over stdio (`stdio1`, `stdio2`, `stdiofast`) BASE is the program, and the variables are those of this process."""
import asyncio
import os
import sys

name, base, sandbox = sys.argv[1:]
HELLO = {"sandbox_id": sandbox, "command": "echo", "args": ["Hello, World!"]}


async def mcp1():
    # As it stands in our users' programs.
    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    for tools in ("executor", "developer", "full"):
        async with streamablehttp_client(f"{base}/mcp/{tools}") as (read, write, _):
            async with ClientSession(read, write) as session:
                began = await session.initialize()
                listed = await session.list_tools()
                result = await session.call_tool("process_run", HELLO)
                assert not result.isError and "Hello, World!" in result.content[0].text, result
                print(tools, began.protocolVersion, *(tool.name for tool in listed.tools))


async def mcp2():
    from mcp import Client

    for tools in ("executor", "developer", "full"):
        async with Client(f"{base}/mcp/{tools}") as client:
            listed = await client.list_tools()
            result = await client.call_tool("process_run", HELLO)
            assert not result.is_error and result.structured_content["stdout"] == "Hello, World!\n", result
            print(tools, *(tool.name for tool in listed.tools))


VARIABLES = {name: value for name, value in os.environ.items() if name.startswith("WORKSPACE_")}
OWN = {"command": "sh", "args": ["-c", "echo >>ran; wc -l <ran"]}


async def stdio1():
    from mcp import ClientSession, StdioServerParameters
    from mcp.client.stdio import stdio_client

    async with stdio_client(StdioServerParameters(command=base, env=VARIABLES)) as (read, write):
        async with ClientSession(read, write) as session:
            began = await session.initialize()
            listed = await session.list_tools()
            results = [await session.call_tool("process_run", OWN) for _ in range(2)]
            assert not any(result.isError for result in results), results
            counts = [result.structuredContent["stdout"].strip() for result in results]
            print(began.protocolVersion, len(listed.tools), *counts)


async def stdio2():
    from mcp import Client, StdioServerParameters
    from mcp.client.stdio import stdio_client

    async with Client(stdio_client(StdioServerParameters(command=base, env=VARIABLES))) as client:
        listed = await client.list_tools()
        results = [await client.call_tool("process_run", OWN) for _ in range(2)]
        print(len(listed.tools), *(result.structured_content["stdout"].strip() for result in results))


async def stdiofast():
    from fastmcp import Client
    from fastmcp.client.transports import StdioTransport

    transport = StdioTransport(command=base, args=[], env=VARIABLES, keep_alive=False)
    async with Client(transport) as client:
        assert len(await client.list_tools()) == 6
        results = [await client.call_tool("process_run", OWN) for _ in range(2)]
        print(*(result.structured_content["stdout"].strip() for result in results))


async def fastmcp():
    from fastmcp import Client

    async with Client(f"{base}/mcp/developer") as client:
        assert len(await client.list_tools()) == 6
        await client.call_tool("file_write", {"sandbox_id": sandbox, "path": "by-fastmcp", "content": "x"})
        read = await client.call_tool("file_read", {"sandbox_id": sandbox, "path": "by-fastmcp"})
        print(read.structured_content["content"])


async def langchain():
    from langchain_mcp_adapters.client import MultiServerMCPClient

    client = MultiServerMCPClient({"w": {"transport": "streamable_http", "url": f"{base}/mcp/developer"}})
    tools = {tool.name: tool for tool in await client.get_tools()}
    assert len(tools) == 6
    print("Hello, World!" in str(await tools["process_run"].ainvoke(HELLO)))


async def agents():
    from agents.mcp import MCPServerStreamableHttp

    async with MCPServerStreamableHttp(params={"url": f"{base}/mcp/full"}) as server:
        assert len(await server.list_tools()) == 14
        print("Hello, World!" in (await server.call_tool("process_run", HELLO)).content[0].text)


async def resources1():
    from mcp import ClientSession, types
    from mcp.client.streamable_http import streamablehttp_client
    from pydantic import AnyUrl

    told = asyncio.Queue()

    async def hear(message):
        if isinstance(message, types.ServerNotification) and isinstance(
            message.root, types.ResourceUpdatedNotification
        ):
            told.put_nowait(str(message.root.params.uri))

    async with streamablehttp_client(f"{base}/mcp/full") as (read, write, _):
        async with ClientSession(read, write, message_handler=hear) as session:
            began = await session.initialize()
            assert began.capabilities.resources.subscribe and began.capabilities.completions is not None
            root = (await session.list_resources()).resources[0].uri
            template = (await session.list_resource_templates()).resourceTemplates[0].uriTemplate
            reference = types.ResourceTemplateReference(type="ref/resource", uri=template)
            known = {"sandbox_id": sandbox}
            path = (await session.complete(reference, {"name": "path", "value": "no"}, known)).completion.values[0]
            note = AnyUrl(template.replace("{sandbox_id}", sandbox).replace("{+path}", path))
            await session.subscribe_resource(note)
            await session.call_tool("file_write", {"sandbox_id": sandbox, "path": path, "content": "written"})
            heard = await asyncio.wait_for(told.get(), 20)
            await session.unsubscribe_resource(note)
            text = (await session.read_resource(note)).contents[0].text
            print(str(root) == f"workspace://{sandbox}/", path, heard == str(note), text)


async def resources2():
    from mcp import Client
    from mcp.types import ResourceTemplateReference

    async with Client(f"{base}/mcp/full") as client:
        root = (await client.list_resources()).resources[0].uri
        template = (await client.list_resource_templates()).resource_templates[0].uri_template
        reference = ResourceTemplateReference(type="ref/resource", uri=template)
        known = {"sandbox_id": sandbox}
        path = (await client.complete(reference, {"name": "path", "value": "no"}, known)).completion.values[0]
        note = template.replace("{sandbox_id}", sandbox).replace("{+path}", path)
        async with client.listen(resource_subscriptions=[note]) as subscription:
            await client.call_tool("file_write", {"sandbox_id": sandbox, "path": path, "content": "again"})
            event = await asyncio.wait_for(anext(aiter(subscription)), 20)
        text = (await client.read_resource(note)).contents[0].text
        print(client.protocol_version, root == f"workspace://{sandbox}/", path, event.uri == note, text)


asyncio.run(globals()[name]())
