"""The search for anomalies among test data: what `vaelab detect_anomalies` does, and leaves in anomalies/ of a run folder.

scores.csv has the scores of each example, the results say how well each score tells the anomalies, *.png show both.
"""

from vaelab.commands.anomalies.search import detect_anomalies

__all__ = ["detect_anomalies"]
