"""A package, so that its fixtures end with its last test: Playwright's loop must not meet those of other tests."""
