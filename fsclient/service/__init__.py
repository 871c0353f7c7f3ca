"""The HTTP service: lookups over HTTP, and who may ask for them."""
