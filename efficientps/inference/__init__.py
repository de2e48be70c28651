"""Networks as they run best where nothing is trained: norms folded, weights in the precision that they are used in."""
