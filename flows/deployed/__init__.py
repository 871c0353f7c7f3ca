"""The flows as they are deployed, and what only a deployment needs."""
