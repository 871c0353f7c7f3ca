"""What stands in when a store can't answer: the last good answer, labelled, and none that is too old."""
