"""Define what a model is, what it predicts and how well."""
