//! Changes to project.yaml that keep its comments.
