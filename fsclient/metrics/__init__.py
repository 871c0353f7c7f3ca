"""What the client's calls did: counted in this process, told to Prometheus and, through Redis, to other processes."""
