"""The measured parts of `memos-ray bench cluster`, each with a system of its own on one Ray of this machine."""
