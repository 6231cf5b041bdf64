"""The reader as an HTTP service: an API, its documentation and one page."""
