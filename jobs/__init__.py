"""One verb, one file: parse, load the configuration, call the app, print one record."""
