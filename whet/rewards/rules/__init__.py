"""Built-in rules that need no model: one reward a file."""
