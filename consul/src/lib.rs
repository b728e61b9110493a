//! A typed client of the parts of Consul that a small cluster needs, and an embedded agent.
