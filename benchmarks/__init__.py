"""How fast and how large ktrdr-mcp is, beside its peers and beside the bare arithmetic."""
