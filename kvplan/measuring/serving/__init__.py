"""End-to-end rows of servers: reading, predicting, fitting and checking them."""
