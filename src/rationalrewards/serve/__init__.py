"""Serving a critic: the right command for each engine, a wait until it answers, and GGUF files."""
