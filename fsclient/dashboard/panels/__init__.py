"""Parts of pages with a subject of their own, a module each."""
