"""Tasks on a Ray cluster: the driver, what runs on the nodes, and what travels between them."""
