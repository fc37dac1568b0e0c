"""A laboratory an LLM agent can trust: neural networks on market data over MCP and HTTP."""

from importlib.metadata import version

__version__ = version("ktrdr-mcp")
