"""The SQL ledger: decisions, versions, roles, evidence, offsets, clock; changed in transactions."""
