"""How the embedded model is made: its world, its training in phases, its evaluation, its export. See README.md."""
