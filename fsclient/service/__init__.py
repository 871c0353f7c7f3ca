"""Lookups over HTTP: what is served, and to whom."""
