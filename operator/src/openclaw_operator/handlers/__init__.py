"""kopf at the edge: it watches the three kinds and tells the controller; it writes nothing."""
