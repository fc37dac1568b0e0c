"""Neural networks on market data, trained, judged and used over MCP and HTTP."""

__version__ = "0.2.0"
