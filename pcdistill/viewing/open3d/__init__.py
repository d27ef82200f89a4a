"""Everything that needs Open3D: the window and off-screen pictures."""
