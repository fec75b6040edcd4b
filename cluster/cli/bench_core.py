"""The measured part of `memos-ray bench core` that needs Ray."""
