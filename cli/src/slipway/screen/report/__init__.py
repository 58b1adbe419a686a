"""How a run was judged, and how two of them differ, as pages and at the terminal."""
