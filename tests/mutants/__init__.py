"""Guards of the product, each with the change that removes it and the tests that must then fail."""
