"""What the client's calls did: counted in this process, exposed to Prometheus and, by Redis, to other processes."""
