"""The only place where parts are put together: workspace, store, jobs, laboratory, faces.

Importing it is cheap; what a laboratory needs is imported when one is opened.
"""

from ktrdr_mcp.app.announcing import Announced, announced
from ktrdr_mcp.app.opening import OpenLab, open_lab
from ktrdr_mcp.app.process import run_lab
from ktrdr_mcp.app.reaching import connect
from ktrdr_mcp.app.serving import serve_http, serve_stdio
from ktrdr_mcp.app.stopping import stop_lab
from ktrdr_mcp.lab.ownership import ownership

__all__ = [
    "Announced",
    "OpenLab",
    "announced",
    "connect",
    "open_lab",
    "ownership",
    "run_lab",
    "serve_http",
    "serve_stdio",
    "stop_lab",
]
