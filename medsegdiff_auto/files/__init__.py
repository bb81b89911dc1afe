"""Reading and writing: scans, grids, folders of predictions."""
