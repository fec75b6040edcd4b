"""Data that the project makes itself, by rule and seed. No model wrote it, and no data set was used."""
