"""One MemCube: journal, state, graph, search."""
