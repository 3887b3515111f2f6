"""What the project needs of itself and does not ship."""
