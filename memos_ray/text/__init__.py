"""Text helpers that ingestion and retrieval share."""
