"""Counting likes: taken in Redis, drained to PostgreSQL, shown live. docs/architecture.md has the picture."""
