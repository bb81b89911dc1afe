"""The solvers, a file each; :data:`medsegdiff_auto.tables.SOLVERS` lists them."""
