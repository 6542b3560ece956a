"""Operations on rows: select, sparse attention. Each has one plain-torch reference; fast kernels share its signature."""
