"""Models that cubes use: embedders. Torch is imported by `sentence_transformer` alone, when it loads one."""
