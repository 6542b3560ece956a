"""Model architectures: one file each over shared layers; they see the KV cache through ``AttentionPass`` only."""
