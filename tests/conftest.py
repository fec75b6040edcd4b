"""Settings of all tests. Hypothesis has no deadlines: the machines that run this are shared, and time is no result."""

import os

from hypothesis import settings

settings.register_profile("quick", deadline=None, max_examples=25)
settings.register_profile("thorough", deadline=None, max_examples=500)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))
