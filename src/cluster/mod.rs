//! The Kubernetes API of the cluster, and how people reach it.

pub mod kubeconfig;
