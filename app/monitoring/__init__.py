"""Turn the logs of predictions and labels into evidence, name causes, draw reports."""
