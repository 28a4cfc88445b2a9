"""The only code that runs uv or touches an environment."""
