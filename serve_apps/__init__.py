"""Ray Serve applications. None yet: agents use the Python client."""
