"""CUDA implementations of the operations."""
