"""Golden numbers of the authors' network, and the recipe of its random weights."""
