"""What an auditor asks for: whose data is gone, and what a model had learned from."""
