"""How the service is reached: a table of operations, bound to MCP, HTTP and a client."""
