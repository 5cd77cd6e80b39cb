"""Run folders: what lies in them, how they are found, compared, reported on and removed."""
