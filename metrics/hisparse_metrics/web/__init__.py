"""What makes the endpoint fit for a network: web-config file, TLS, passwords, limits, requests and connections."""
