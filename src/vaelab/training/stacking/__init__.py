"""Models of one shape that train as one: their weights are stacked, and one step computes all of their steps."""
