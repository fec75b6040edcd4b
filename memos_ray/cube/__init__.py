"""One MemCube: journal, state, graph, search. Sets up Lance for all of its tables."""

import os

# Without this, a commit looks for the latest version from a hint file upwards. A stalled writer that fills a
# cleaned slot leaves a hint below the true latest version; later commits then land beside the log. With it,
# every look-up lists the versions, and a commit writes one file less. Lance reads it at its first commit.
os.environ.setdefault("LANCE_USE_VERSION_HINT", "false")
