"""The charts, as plain dicts: what Plotly would check again is checked by tests."""
