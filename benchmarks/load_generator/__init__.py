"""A load generator for any OpenAI-compatible server: ``benchmarks/serving.py`` is its command.

One way: settings → plan (chats and their arrivals, all from one seed) → runner → records; beside it a sampler of the
server's metrics; then summary, table, picture. What is asked of a server is known before it is asked anything.
"""
