"""The same job in other frameworks, each as its own documentation teaches; `benchmarks.same_job` runs them."""
