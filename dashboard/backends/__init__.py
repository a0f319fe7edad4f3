"""One package per queue library; all knowledge of a library stays inside its package."""
