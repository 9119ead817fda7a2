module programs/operator

go 1.25.0

// For the schemas of its resources alone; nothing of it is built.
require github.com/prometheus-operator/prometheus-operator v0.85.0
