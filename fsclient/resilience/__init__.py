"""When a store fails: circuit breaker, retry under a deadline, and the guard that orders them."""
