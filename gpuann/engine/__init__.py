"""One inverted-file index for every codec: how it is built and how it is searched."""
