"""How tokens are computed: one interface, a plain path that runs everywhere, and a path made for CUDA graphs."""
