"""When a store fails: circuit breaker, retry under a deadline, the guard that orders them, and the last good answer."""
