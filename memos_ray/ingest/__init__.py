"""Messages, documents and triples -> drafts of memories. Knows no storage and no Ray."""
