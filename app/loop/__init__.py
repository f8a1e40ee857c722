"""From evidence to action: decide, gate, carry out, watch, and take back."""
