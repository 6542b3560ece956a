"""Plain-torch references of the operations: any device, the oracle of the GPU path."""
