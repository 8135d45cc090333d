"""What a run is made of, whatever shows or keeps it: data, events, and its bounds and end."""
