"""Lookups over HTTP: what is served, to whom, and how questions, answers and errors are written on the wire."""
