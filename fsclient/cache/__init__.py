"""Answering a question once: the cache and its tiers, single flight, and what tells a cache that something changed."""
