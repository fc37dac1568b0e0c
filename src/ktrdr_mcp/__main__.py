"""`python -m ktrdr_mcp` is the command `ktrdr-mcp`."""

from ktrdr_mcp.cli import main

if __name__ == "__main__":
    main()
