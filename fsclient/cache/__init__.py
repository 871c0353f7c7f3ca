"""Answering a question once: the cache and its tiers, single flight, and what drops answers after a publish."""
