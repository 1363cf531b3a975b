"""The tables that the program shares with the application, and every statement on them."""
