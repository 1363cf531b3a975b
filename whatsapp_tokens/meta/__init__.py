"""What Meta's Graph API says: its errors, and its rate limits."""
