"""One verb, one file: parse, load the configuration, call the app, print one record."""

import os

# Read by torch when it is imported, and a job may train in its own process: on a core that others
# use too, spinning threads train ten times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
