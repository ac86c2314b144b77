"""How many workers a load needs: a simulation of the service's batching over weeks, from measured costs."""
