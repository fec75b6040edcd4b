"""Where cubes run: pure decisions over what is known of nodes and hosts. The directory carries them out."""
