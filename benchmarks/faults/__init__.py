"""Load that no benchmark of speed has: ten times too much, growing fast, beside a training job."""
