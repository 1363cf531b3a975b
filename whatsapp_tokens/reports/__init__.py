"""What people read: the console, the JSON document, the status page and alerts."""
