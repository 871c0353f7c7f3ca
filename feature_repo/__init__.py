"""The feature repository: what exists (catalog), how it is computed (indicators), where it is kept (stores)."""
