"""The calls of all clients on all machines, held in memory as columns and kept up to date from Redis.

``columns`` holds the rows of one interval, ``history`` the intervals of a day or of thirty, ``selection`` adds up the
calls that a page shows, and ``reader`` is what the pages use.
"""
