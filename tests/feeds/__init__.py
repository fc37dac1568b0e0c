"""The feeds' real clients against a local server; `make test-feeds`."""
