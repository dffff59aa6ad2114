"""What learns before a method: students that see in degraded pictures what their teachers see in the originals."""
