"""From a request to an answer: reading the online and the offline store, computing, and saying what is missing."""
