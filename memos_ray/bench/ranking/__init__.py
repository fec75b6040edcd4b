"""Training and testing the ranker: from questions with evidence to weights, held-out figures and ablations."""
