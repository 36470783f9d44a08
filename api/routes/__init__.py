"""The routes under /api/v1, one noun a file, and the health and metrics beside them."""
