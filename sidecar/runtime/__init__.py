"""What is live: services with their policy state and endpoints, and the table that routes requests to them."""
