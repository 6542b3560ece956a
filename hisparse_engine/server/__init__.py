"""The server: an OpenAI-compatible HTTP front in one process, the engine in another, messages between them."""
