"""HiSparse: decode for sparse-attention LLMs with a two-tier KV cache.

Importing this package pulls in nothing heavy: the observability commands run in a base install, without torch.
"""

__version__ = "0.1.0"
