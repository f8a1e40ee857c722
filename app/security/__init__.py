"""Who may do what, what is secret, and whose data it is."""
