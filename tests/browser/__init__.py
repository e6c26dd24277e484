"""A package, so that its fixtures end with its last test: Playwright's event loop must not meet other tests' loops."""
