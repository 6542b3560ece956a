"""What a person sets by file, environment and flags: put together, judged as a whole, and resolved against a model."""
