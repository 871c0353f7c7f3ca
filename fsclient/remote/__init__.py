"""The HTTP service seen from afar: how questions, answers and errors are written on the wire, and what asks them."""
