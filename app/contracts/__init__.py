"""What stages exchange: the columns of a model and the frozen facts about it."""
