"""The built-in set of shapes, made of solids."""
