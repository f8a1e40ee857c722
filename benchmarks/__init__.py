"""One script a claim, each printing ratios to a named peer on the same work.

A script's last line is one JSON record. What scripts share is in `harness`; what one of them needs
besides is in a package of its own.
"""
