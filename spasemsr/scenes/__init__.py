"""Pictures whose truth is known: the world of `profile: probe`, where guidance can be proved in minutes."""
