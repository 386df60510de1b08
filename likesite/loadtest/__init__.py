"""What a load run is made of: its likes, its certificate, their place in Locust. Knows the service by HTTP only."""
