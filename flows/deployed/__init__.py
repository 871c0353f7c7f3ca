"""What only Prefect needs: where tasks run, what its UI shows of a run, and the flows as they are deployed."""
