"""Where tokens live: slot accounting, the pools of both tiers, and which rows are hot. Knows nobody above it."""
