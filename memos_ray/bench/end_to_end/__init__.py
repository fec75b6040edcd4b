"""LoCoMo with an LLM: what a model answers from each system's context, and what a judge makes of it."""
