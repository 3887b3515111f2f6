"""The app's side: connections from apps, the requests on them, and how they end."""
