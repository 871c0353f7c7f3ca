"""What all clients of all machines did, held in memory as columns and kept up to date from Redis.

``columns`` holds the rows of a time, ``history`` the times of a day or of thirty, ``selection`` adds up what is asked
for, ``reader`` is what the pages use.
"""
