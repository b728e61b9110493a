//! What a client needs of the place where membership is agreed on. Consul's side of it is wired outside.
