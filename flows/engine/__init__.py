"""What Prefect knows of a run: what it is called, where its tasks work, how it ends, and what the UI shows of it."""
