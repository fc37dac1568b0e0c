"""Import: files as other tools write them, recognised, read and normalised."""
