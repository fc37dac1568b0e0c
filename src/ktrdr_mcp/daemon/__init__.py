"""The only place where parts are put together: workspace, store, jobs, service, api.

Importing it is cheap; what a service needs is imported when one is opened.
"""

from ktrdr_mcp.daemon.connection import connect, stop_daemon
from ktrdr_mcp.daemon.process import run_daemon
from ktrdr_mcp.daemon.server import OpenWorkspace, ServedWorkspace, open_workspace, serve_workspace
from ktrdr_mcp.daemon.stdio import serve_http, serve_stdio
from ktrdr_mcp.ownership.lock import ownership

__all__ = [
    "ServedWorkspace",
    "OpenWorkspace",
    "serve_workspace",
    "connect",
    "open_workspace",
    "ownership",
    "run_daemon",
    "serve_http",
    "serve_stdio",
    "stop_daemon",
]
