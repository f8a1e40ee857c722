"""Versions, the artifacts they name and the roles they play."""
